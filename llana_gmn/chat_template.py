"""Prompts: LLaNA's Vicuna v1.1 form as a chat template, and messages with NeRFs in them as text.

Source: docs/released_format.md#prompt. The end of an answer is the tokenizer's own end token, `</s>` for Llama-2 as in LLaNA.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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


_TEMPLATE = (
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{{- messages[0]['content'] + ' ' -}}{%- set turns = messages[1:] -%}"
    "{%- else -%}"
    "{{- 'SYSTEM_PROMPT' -}}{%- set turns = messages -%}"
    "{%- endif -%}"
    "{%- for message in turns -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- 'USER: ' + message['content'] + ' ' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- 'ASSISTANT:' -}}{%- generation -%}{{- ' ' + message['content'] + eos_token -}}{%- endgeneration -%}"
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

_NERF_KEYS = ("nerf", "path", "embedding")


def conversation_messages(
    nerfs: Sequence[Any], questions: Sequence[str], answers: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The messages of a conversation about NeRFs, as `LlanaGmnProcessor.apply_chat_template` takes them.

    Args:
        nerfs: records, paths or embeddings ``(D,)``, shown before the first question, each with a newline; none for plain text.
            Where the questions have a placeholder for each, or placeholders of one NeRF alone, they stand there and nowhere else.
        questions: the user's turns.
        answers: the assistant's turns, one for each question, or one less where the last is still to be answered.

    Raises `ValueError` for any other number of answers.
    """
    if len(questions) - len(answers) not in (0, 1):
        raise ValueError(
            f"{len(answers)} answers came with {len(questions)} questions; expected one each, or none to the last"
        )
    messages: list[dict[str, Any]] = []
    places = sum(len(PLACEHOLDER.findall(question)) for question in questions)
    in_place = len(nerfs) == 1 <= places or 0 < places == len(nerfs)
    rest = itertools.cycle(nerfs)
    for turn, question in enumerate(questions):
        shown = [{"type": "nerf", "nerf": nerf} for nerf in nerfs] if turn == 0 and not in_place else []
        asked = _in_place(question, rest) if in_place else [{"type": "text", "text": question}]
        messages.append({"role": "user", "content": [*shown, *asked]})
        messages += [{"role": "assistant", "content": answer} for answer in answers[turn : turn + 1]]
    return messages


def _in_place(question: str, nerfs: Iterator[Any]) -> list[dict[str, Any]]:
    """The parts of a question whose placeholders are NeRFs, with nothing added behind them."""
    first, *others = PLACEHOLDER.split(question)
    parts: list[dict[str, Any]] = [{"type": "text", "text": first}]
    for text in others:
        parts += [{"type": "nerf", "nerf": next(nerfs), "after": ""}, {"type": "text", "text": text}]
    return parts


def flatten_conversation(conversation: Sequence[Mapping[str, Any]], nerf_token: str) -> tuple[list[dict], list[Any]]:
    """Messages whose content is plain text with `nerf_token` in it, and the NeRFs in order.

    A NeRF's placeholder is followed by a newline, as in LLaNA's prompts: ``<nerf>\\nWhat is this object?``; by what its part says
    under ``after``, if it says anything.
    """
    messages, nerfs = [], []
    for message in conversation:
        content = message.get("content")
        if content is None:
            content = ""
        if not isinstance(content, str):
            content, found = _flatten_content(content, nerf_token)
            nerfs += found
        messages.append({**message, "content": content})
    return messages, nerfs


def _flatten_content(content: Sequence[Any], nerf_token: str) -> tuple[str, list[Any]]:
    text, nerfs = "", []
    for part in content:
        if isinstance(part, str):
            text += part
            continue
        kind = part.get("type")
        if kind == "text":
            text += part["text"]
        elif kind == "nerf":
            given = [part[key] for key in _NERF_KEYS if part.get(key) is not None]
            if len(given) != 1:
                raise ValueError(
                    f"a NeRF in a message has {len(given)} of the keys {', '.join(_NERF_KEYS)}; expected exactly one of them"
                )
            nerfs.append(given[0])
            text += nerf_token + part.get("after", "\n")
        else:
            raise ValueError(f"a message has content of type {kind!r}; expected 'text' or 'nerf'")
    return text, nerfs


def is_batch(conversation: Any) -> bool:
    """Whether these are several conversations, rather than the messages of one."""
    return (
        bool(conversation)
        and not isinstance(conversation[0], Mapping)
        and not isinstance(conversation[0], str | os.PathLike)
    )
