"""Prompts: LLaNA's Vicuna v1.1 form as a chat template, and messages with NeRFs in them as text.

Source: docs/released_format.md#prompt. The end of an answer is the tokenizer's own end token, `</s>` for Llama-2 as in LLaNA.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .literal import guarded

PLACEHOLDERS = ("<nerf>", "<point>")
"""What a user writes for a NeRF: ours, and LLaNA's."""

PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))

SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


# A prompt ends with "ASSISTANT:", so the space after it is the first thing that the assistant says.
def _template(system: str) -> str:
    return _TEMPLATE.replace("SYSTEM_PROMPT", system.replace("'", "\\'"))


# Content is a string or a list of parts, so that the template serves a tokenizer's `apply_chat_template` too. The processor says
# what to write for a NeRF; without it stand LLaNA's tokens, and a model that then gets no NeRF says so.
_TEMPLATE = (
    "{%- set nerf = nerf_placeholder | default('<point_start><point_patch><point_end>') -%}"
    "{%- macro written(message) -%}"
    "{%- if not message['content'] -%}"
    "{%- elif message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part is string -%}{{- part -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- elif part['type'] == 'nerf' -%}{{- nerf + '\\n' -}}"
    "{%- else -%}{{- raise_exception('a message has content of type ' + part['type'] + '; expected text or nerf') -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{{- written(messages[0]) + ' ' -}}{%- set turns = messages[1:] -%}"
    "{%- else -%}"
    "{{- 'SYSTEM_PROMPT' -}}{%- set turns = messages -%}"
    "{%- endif -%}"
    "{%- for message in turns -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- 'USER: ' + written(message) + ' ' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- 'ASSISTANT:' -}}{%- generation -%}{{- ' ' + written(message) + eos_token -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- raise_exception('a message has the role ' + message['role'] "
    "+ '; expected user or assistant, after one system message') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)

VICUNA_TEMPLATE = _template(f"{SYSTEM_PROMPT} ")

PLAIN_TEMPLATE = _template("")
"""The same without a system message: for small models trained from nothing, which it would only cost time."""

_PLACES = "text with places"
_NERF_KEYS = ("nerf", "path", "embedding")


def conversation_messages(
    nerfs: Sequence[Any], questions: Sequence[str], answers: Sequence[str] = (), *, placeholders: bool = True
) -> list[dict[str, Any]]:
    """The messages of a conversation about NeRFs, as `LlanaGmnProcessor.apply_chat_template` takes them.

    Args:
        nerfs: records, paths or embeddings, shown before the first question, each with a newline; none for plain text.
            Where the questions have a placeholder for each, or placeholders of one NeRF alone, they stand there and nowhere else.
        questions: the user's turns.
        answers: the assistant's turns, one for each question, or one less where the last is still to be answered.
        placeholders: whether questions may have placeholders, as those of a data set; a person's are text like any other.

    Raises `ValueError` for any other number of answers.
    """
    if len(questions) - len(answers) not in (0, 1):
        raise ValueError(
            f"{len(answers)} answers came with {len(questions)} questions; expected one each, or none to the last"
        )
    messages: list[dict[str, Any]] = []
    places = sum(len(PLACEHOLDER.findall(question)) for question in questions) if placeholders else 0
    in_place = len(nerfs) == 1 <= places or 0 < places == len(nerfs)
    rest = itertools.cycle(nerfs)
    for turn, question in enumerate(questions):
        shown = [{"type": "nerf", "nerf": nerf} for nerf in nerfs] if turn == 0 and not in_place else []
        asked = _in_place(question, rest) if in_place else [{"type": "text", "text": question}]
        messages.append({"role": "user", "content": [*shown, *asked]})
        said = [[{"type": "text", "text": answer}] for answer in answers[turn : turn + 1]]
        messages += [{"role": "assistant", "content": content} for content in said]
    return messages


def _in_place(question: str, nerfs: Iterator[Any]) -> list[dict[str, Any]]:
    """The parts of a question whose placeholders are NeRFs, with nothing added behind them."""
    first, *others = PLACEHOLDER.split(question)
    parts: list[dict[str, Any]] = [{"type": "text", "text": first}]
    for text in others:
        parts += [{"type": "nerf", "nerf": next(nerfs), "inline": True}, {"type": "text", "text": text}]
    return parts


def conversation_parts(
    conversation: Sequence[Mapping[str, Any]], *, spelled: re.Pattern[str] | None = None
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Messages whose content is parts, ``{"type": "text", "text": ...}`` or ``{"type": "nerf"}``, and the NeRFs in order.

    A NeRF's placeholder will be followed by a newline; one that is ``inline`` becomes text, with nothing behind it.

    Args:
        conversation: the messages.
        spelled: special tokens, which are `literal.guarded` in all text; so are placeholders in parts. In content that is one
            string a placeholder is the place of a NeRF that the caller brings.

    Raises `ValueError` for a part of another type, or one with no NeRF or several.
    """
    messages, nerfs = [], []
    for message in conversation:
        content = message.get("content") or []
        parts: list[dict[str, str]] = []
        for each in content if not isinstance(content, str) else ():
            part: Mapping[str, Any] = {"type": "text", "text": each} if isinstance(each, str) else each
            kind = part.get("type")
            if kind == "text":
                parts.append({"type": "text", "text": part["text"]})
            elif kind == "nerf":
                given = [part[key] for key in _NERF_KEYS if part.get(key) is not None]
                if len(given) != 1:
                    raise ValueError(
                        f"a NeRF in a message has {len(given)} of the keys {', '.join(_NERF_KEYS)}; "
                        "expected exactly one of them"
                    )
                nerfs.append(given[0])
                parts.append({"type": _PLACES, "text": PLACEHOLDERS[0]} if part.get("inline") else {"type": "nerf"})
            else:
                raise ValueError(f"a message has content of type {kind!r}; expected 'text' or 'nerf'")
        if isinstance(content, str):
            parts = [{"type": _PLACES, "text": content}]
        messages.append({**message, "content": _joined([_as_text(part, spelled) for part in _joined(parts)])})
    return messages, nerfs


def _as_text(part: dict[str, str], spelled: re.Pattern[str] | None) -> dict[str, str]:
    """A part in which no words are read as tokens; only what is a place keeps its placeholders."""
    if part["type"] == "nerf":
        return part
    text = part["text"]
    if spelled is not None:
        places = PLACEHOLDER.findall(text) if part["type"] == _PLACES else []
        words = PLACEHOLDER.split(text) if places else [text]
        pieces = itertools.zip_longest((guarded(each, spelled) for each in words), places, fillvalue="")
        text = "".join(itertools.chain.from_iterable(pieces))
    return {"type": "text", "text": text}


def _joined(parts: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Parts of which no two texts are neighbours: templates may put something between parts."""
    joined: list[dict[str, str]] = []
    for part in parts:
        if joined and part["type"] == joined[-1]["type"] == "text":
            joined[-1] = {"type": "text", "text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


def content_text(parts: Sequence[Mapping[str, str]]) -> str:
    """Parts of `conversation_parts` as one text.

    A NeRF's placeholder is followed by a newline, as in LLaNA's prompts: ``<nerf>\\nWhat is this object?``.
    """
    return "".join(part["text"] if part["type"] == "text" else f"{PLACEHOLDERS[0]}\n" for part in parts)


def for_template(
    conversations: Sequence[Sequence[Mapping[str, Any]]], render: Callable[[list[Any]], Sequence[str]]
) -> list[list[dict[str, Any]]]:
    """Messages of `conversation_parts` with their content in the form that a template reads.

    Templates differ: some read a string, some go through parts and would pass over the letters of a string in silence. Which it
    is is found by asking the template about a short conversation: parts as they are, if it has a place for NeRFs of its own; else
    a string; else one part of text, with the placeholders in it.

    Args:
        conversations: messages of `conversation_parts`.
        render: the template: conversations to prompts.
    """
    forms: tuple[Callable[[Any], Any], ...] = (
        list,
        content_text,
        lambda parts: [{"type": "text", "text": content_text(parts)}],
    )
    form = next((each for each in forms if _reads(render, each)), content_text)
    return [[{**message, "content": form(message["content"])} for message in messages] for messages in conversations]


def _reads(render: Callable[[list[Any]], Sequence[str]], form: Callable[[Any], Any]) -> bool:
    asked = [{"type": "nerf"}, {"type": "text", "text": "question"}]
    said = [{"type": "text", "text": "answer"}]
    messages = [{"role": "user", "content": form(asked)}, {"role": "assistant", "content": form(said)}]
    try:
        (prompt,) = render([messages])
    except Exception:  # a template fails in any way when content has a form that it does not expect
        return False
    return "question" in prompt and "answer" in prompt and any(each in prompt for each in PLACEHOLDERS)


def is_batch(conversation: Any) -> bool:
    """Whether these are several conversations, rather than the messages of one."""
    return (
        bool(conversation)
        and not isinstance(conversation[0], Mapping)
        and not isinstance(conversation[0], str | os.PathLike)
    )


def assistant_masks(
    offsets: Sequence[Sequence[tuple[int, int]]],
    spans: Sequence[Sequence[tuple[int, int]]],
    replacements: Sequence[Sequence[Mapping[str, Any]]],
) -> list[list[int]]:
    """1 on every token that overlaps a span of the assistant's; spans move by what the placeholders before them gained.

    Args:
        offsets: first and last character + 1 of each token of each prompt.
        spans: what the assistant said, in characters of the prompts before their placeholders were replaced.
        replacements: the placeholders of each prompt, as `ProcessorMixin.get_text_with_replacements` describes them.
    """
    masks = []
    for tokens, said, replaced in zip(offsets, spans, replacements, strict=True):
        mask = [0] * len(tokens)
        gained = [(each["span"][1], len(each["replacement"]) - len(each["text"])) for each in replaced]
        for span in said:
            start, end = (char + sum(gain for place, gain in gained if place <= char) for char in span)
            for i, (first, last) in enumerate(np.asarray(tokens).tolist()):
                if first < end and last > start:
                    mask[i] = 1
        masks.append(mask)
    return masks
