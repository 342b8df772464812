"""Captions of many NeRFs, and conversations about them.

Inputs go through in windows of some batches. A NeRF is read and encoded once, however many questions are asked about it: its
embedding stands in every prompt, and those of the last files are kept for later windows. Inside a window prompts are sorted by
their length (a batch pads little); outside, the order of the inputs is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from gmn_encoder.ahead import ahead
from gmn_encoder.nerfs.finite import encode_each
from gmn_encoder.nerfs.record import Nerf

from ..model.modeling import LlanaGmnForConditionalGeneration
from ..model.nerf_items import NerfLike
from ..model.processing import LlanaGmnProcessor
from ..prompts.chat_template import conversation_messages
from .context import ConversationFull, room_for_answer
from .honesty import TokenProbabilities, end_tokens, on_flag

DEFAULT_QUESTION = "What is this object?"
WINDOW_BATCHES = 16
KEPT_BYTES = 64 << 20
"""Of embeddings of files that are kept between windows: 16384 of the released encoder's."""

OnError = Callable[[int, Exception], None]
OnProbability = Callable[[int, float], None]
_Read = dict[Hashable, Sequence[Nerf | Tensor] | Exception]


def caption_nerfs(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[NerfLike],
    *,
    question: str | Sequence[str] = DEFAULT_QUESTION,
    batch_size: int = 16,
    on_error: OnError | None = None,
    seed: int = 0,
    **generation: Any,
) -> Iterator[tuple[int, str]]:
    """What the model says about each NeRF.

    Args:
        model: the model that answers, in evaluation mode.
        processor: the model's processor.
        nerfs: records, paths or embeddings.
        question: one question for all, or one each; placeholders and special tokens spelled out in it are text.
        batch_size: prompts generated together.
        on_error: receives the place and the error of an input that cannot be read, or leaves no room for an answer in the
            context, which is then left out; None to raise.
        seed: the seed of sampling, set anew for each window.
        **generation: options of `generate`; by default greedy, 128 new tokens.

    Yields:
        ``(place, caption)`` in the order of `nerfs`.
    """
    questions = [question] * len(nerfs) if isinstance(question, str) else list(question)
    if len(questions) != len(nerfs):
        raise ValueError(f"{len(questions)} questions came with {len(nerfs)} NeRFs; pass one for all, or one each")
    turns = [[text] for text in questions]
    options = {"batch_size": batch_size, "on_error": on_error, "seed": seed, "placeholders": False, **generation}
    found = converse(model, processor, nerfs, turns, **options)
    return ((place, caption) for place, (caption,) in found)


def converse(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[NerfLike],
    questions: Sequence[Sequence[str]],
    *,
    batch_size: int = 16,
    on_error: OnError | None = None,
    seed: int = 0,
    placeholders: bool = True,
    on_probability: OnProbability | None = None,
    **generation: Any,
) -> Iterator[tuple[int, list[str]]]:
    """What the model answers in a conversation about each NeRF: turn by turn, each question after its own earlier answers.

    Args:
        questions: the turns of each NeRF's conversation, at least one.
        placeholders: whether questions may have placeholders, see `conversation_messages`.
        on_probability: receives the place and the mean token probability of each answer, before it is yielded; not with beams.
        model, processor, nerfs, batch_size, on_error, seed, generation: arguments of `caption_nerfs`.

    Yields:
        ``(place, answers)`` in the order of `nerfs`, an answer for each question.

    Raises:
        ValueError: the processor of another model; questions that are not those of the NeRFs.
    """
    processor.check_model(model.config)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(questions) != len(nerfs) or not all(questions):
        raise ValueError(f"{len(questions)} lists of questions came with {len(nerfs)} NeRFs; pass one each, none empty")
    notes = on_probability or (lambda place, probability: None)
    return _converse(model, processor, nerfs, questions, batch_size, on_error, seed, placeholders, notes, generation)


@dataclass
class _Conversation:
    """One input's: its embeddings, its questions, and the answers so far."""

    place: int
    embeddings: list[Tensor]
    questions: Sequence[str]
    placeholders: bool = True
    answers: list[str] = field(default_factory=list)

    def messages(self) -> list[dict[str, Any]]:
        """Up to the first question without an answer."""
        # Made from all questions: a placeholder in a later one decides where the NeRF stands in the first prompt too.
        answers = [*self.answers, *[""] * (len(self.questions) - len(self.answers))]
        messages = conversation_messages(self.embeddings, self.questions, answers, placeholders=self.placeholders)
        return messages[: 2 * len(self.answers) + 1]

    def text(self) -> str:
        return "\n".join([*self.questions[: len(self.answers) + 1], *self.answers])


def _converse(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[NerfLike],
    questions: Sequence[Sequence[str]],
    batch_size: int,
    on_error: OnError | None,
    seed: int,
    placeholders: bool,
    notes: OnProbability,
    generation: Mapping[str, Any],
) -> Iterator[tuple[int, list[str]]]:
    options = {"max_new_tokens": 128, "do_sample": False, **generation}
    window = batch_size * WINDOW_BATCHES
    windows = [range(start, min(start + window, len(nerfs))) for start in range(0, len(nerfs), window)]
    shown = _Embeddings(model, processor, nerfs, batch_size)
    for number, (places, read) in enumerate(zip(windows, ahead(shown.read, windows), strict=True)):
        torch.manual_seed(seed + number)
        held = []
        for place, found in zip(places, shown.encode(places, read), strict=True):
            if not isinstance(found, Exception):
                held.append(_Conversation(place, found, questions[place], placeholders))
            elif on_error is None:
                raise found
            else:
                on_error(place, found)
        for turn in range(max((len(each.questions) for each in held), default=0)):
            asked = [each for each in held if len(each.questions) > turn]
            full = _answer_turn(model, processor, asked, batch_size, options, notes)
            for place, error in full.items():
                if on_error is None:
                    raise error
                on_error(place, ConversationFull(f"{_name_of(nerfs[place], place)}: {error}"))
            held = [each for each in held if each.place not in full]
        yield from ((each.place, each.answers) for each in held)


def _name_of(nerf: NerfLike, place: int) -> str:
    if isinstance(nerf, str | os.PathLike):
        return os.fspath(nerf)
    return nerf.name if isinstance(nerf, Nerf) else f"embedding {place}"


class _Embeddings:
    """What stands in the prompts for each input. Files are told apart by their names, other inputs by their places."""

    def __init__(
        self,
        model: LlanaGmnForConditionalGeneration,
        processor: LlanaGmnProcessor,
        nerfs: Sequence[NerfLike],
        batch_size: int,
    ) -> None:
        self._model, self._processor, self._nerfs, self._batch_size = model, processor, nerfs, batch_size
        self._kept: dict[Hashable, list[Tensor]] = {}
        self._on_flag = on_flag(model.config)

    def read(self, places: Sequence[int]) -> _Read:
        """Each input once: as it is kept, as `LlanaGmnProcessor.read_nerf` reads it, or what is wrong with it."""
        read: _Read = {}
        for place in places:
            key = self._key(place)
            try:
                read[key] = (
                    read.get(key)
                    or self._kept.get(key)
                    or self._processor.read_nerf(self._nerfs[place], on_flag=self._on_flag)
                )
            except (ValueError, OSError) as error:
                read[key] = error
        return read

    def encode(self, places: Sequence[int], read: _Read) -> list[list[Tensor] | Exception]:
        """The embeddings of each input, as `LlanaGmnModel.encode` makes them, or what is wrong with it."""
        found = {key: self._kept.get(key, content) for key, content in read.items()}
        good = {key: content for key, content in found.items() if not isinstance(content, Exception)}
        records = [each for content in good.values() for each in content if isinstance(each, Nerf)]
        # A model of another kind, which is shown pictures, has no `encode`.
        rows: Iterator[Tensor | Exception] = iter(self._encoded(records) if records else [])
        made = {key: [next(rows) if isinstance(each, Nerf) else each for each in good[key]] for key in good}
        rows_of = {key: [one for one in each if not isinstance(one, Exception)] for key, each in made.items()}
        shown = {key: each for key, each in rows_of.items() if len(each) == len(made[key])}
        self._kept |= {key: embeddings for key, embeddings in shown.items() if isinstance(key, str)}
        total = sum(map(_bytes_of, self._kept.values()))
        while total > KEPT_BYTES:
            total -= _bytes_of(self._kept.pop(next(iter(self._kept))))
        failed = {key: content for key, content in found.items() if isinstance(content, Exception)}
        failed |= {key: one for key, each in made.items() for one in each if isinstance(one, Exception)}
        return [shown.get(key) or failed[key] for key in map(self._key, places)]

    def _encoded(self, records: Sequence[Nerf]) -> list[Tensor | ValueError]:
        return encode_each(
            lambda nerfs, on_error: self._model.encode(nerfs, batch_size=self._batch_size, on_error=on_error).cpu(),
            records,
        )

    def _key(self, place: int) -> Hashable:
        nerf = self._nerfs[place]
        return os.fspath(nerf) if isinstance(nerf, str | os.PathLike) else place


def _bytes_of(embeddings: Sequence[Tensor]) -> int:
    return sum(each.nbytes for each in embeddings)


def _answer_turn(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    items: list[_Conversation],
    batch_size: int,
    options: Mapping[str, Any],
    notes: OnProbability,
) -> dict[int, ConversationFull]:
    """Add to the answers of each conversation the one to its next question; returns the places of those without room for one."""
    texts = {item.place: item.text() for item in items}
    lengths = {text: len(processor.tokenizer(text)["input_ids"]) for text in set(texts.values())}
    items = sorted(items, key=lambda item: (lengths[texts[item.place]], item.place))
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    prepared = ahead(lambda batch: _inputs(processor, batch), batches)
    full: dict[int, ConversationFull] = {}
    for batch, inputs in zip(batches, prepared, strict=True):
        by_room: dict[int, list[_Conversation]] = {}
        for item, length in zip(batch, inputs["attention_mask"].sum(dim=1).tolist(), strict=True):
            try:
                room = room_for_answer(model.config, length, options["max_new_tokens"])
                by_room.setdefault(room, []).append(item)
            except ConversationFull as error:
                full[item.place] = error
        for room, members in by_room.items():
            # Answers near the end of the context are of their own length, whoever else is in the batch.
            theirs = inputs if len(members) == len(batch) else _inputs(processor, members)
            noted = TokenProbabilities() if int(options.get("num_beams") or 1) == 1 else None
            watched = {} if noted is None else {"logits_processor": LogitsProcessorList([noted])}
            ids = model.generate(**theirs.to(model.device), **{**options, **watched, "max_new_tokens": room})
            for item, text in zip(members, processor.post_process(ids, theirs), strict=True):
                item.answers.append(text)
            means = noted.means(ids, end_tokens(model)) if noted is not None else ()
            for item, mean in zip(members, means, strict=False):
                notes(item.place, mean)
    return full


def _inputs(processor: LlanaGmnProcessor, batch: Sequence[_Conversation]) -> Any:
    return processor.apply_chat_template(
        [item.messages() for item in batch],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
