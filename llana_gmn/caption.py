"""Captions of many NeRFs, and conversations about them.

Inputs go through in windows of some batches. Inside a window they are sorted, by the length of their prompts and then by
architecture (a batch pads little, and the encoder stacks NeRFs of one architecture); outside, the order of the inputs is kept.
Files are written so that an interrupted run continues where it stopped, with any number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gmn_encoder.ahead import ahead
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.nerfs.record import Nerf

from .modeling import LlanaGmnForConditionalGeneration
from .processing import LlanaGmnProcessor, NerfLike, read_embedding
from .record_file import RecordFile, remove_records

DEFAULT_QUESTION = "What is this object?"
WINDOW_BATCHES = 16

_Loaded = tuple[int, Any, list[str]]  # place, NeRF, questions
OnError = Callable[[int, Exception], None]


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
        nerfs: records, paths or embeddings.
        question: one for all, or one each.
        batch_size: prompts generated together.
        on_error: called with the place and the error of an input that cannot be read, which is then left out; None to raise.
        seed: set anew for each window, for sampling.
        **generation: for `generate`; by default greedy, 128 new tokens.

    Yields:
        ``(place, caption)`` in the order of `nerfs`.
    """
    questions = [question] * len(nerfs) if isinstance(question, str) else list(question)
    if len(questions) != len(nerfs):
        raise ValueError(f"{len(questions)} questions came with {len(nerfs)} NeRFs; pass one for all, or one each")
    turns = [[text] for text in questions]
    found = converse(model, processor, nerfs, turns, batch_size=batch_size, on_error=on_error, seed=seed, **generation)
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
    **generation: Any,
) -> Iterator[tuple[int, list[str]]]:
    """What the model answers in a conversation about each NeRF: turn by turn, each question after its own earlier answers.

    Args:
        questions: the turns of each NeRF's conversation, at least one.
        others: as of `caption_nerfs`.

    Yields:
        ``(place, answers)`` in the order of `nerfs`, an answer for each question.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(questions) != len(nerfs) or not all(questions):
        raise ValueError(f"{len(questions)} lists of questions came with {len(nerfs)} NeRFs; pass one each, none empty")
    return _converse(model, processor, nerfs, questions, batch_size, on_error, seed, generation)


def _converse(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[NerfLike],
    questions: Sequence[Sequence[str]],
    batch_size: int,
    on_error: OnError | None,
    seed: int,
    generation: Mapping[str, Any],
) -> Iterator[tuple[int, list[str]]]:
    options = {"max_new_tokens": 128, "do_sample": False, **generation}
    window = batch_size * WINDOW_BATCHES
    windows = (range(start, min(start + window, len(nerfs))) for start in range(0, len(nerfs), window))

    def load(places: Sequence[int]) -> list[_Loaded]:
        return [(i, nerf, list(questions[i])) for i in places for nerf in _load(nerfs[i], i, on_error)]

    for number, loaded in enumerate(ahead(load, windows)):
        torch.manual_seed(seed + number)
        answers: dict[int, list[str]] = {i: [] for i, _, _ in loaded}
        for turn in range(max((len(asked) for _, _, asked in loaded), default=0)):
            asked_now = [item for item in loaded if len(item[2]) > turn]
            _answer_turn(model, processor, asked_now, answers, batch_size, options)
        yield from sorted(answers.items())


def _answer_turn(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    items: list[_Loaded],
    answers: dict[int, list[str]],
    batch_size: int,
    options: Mapping[str, Any],
) -> None:
    """Add to the answers of each item the one to its next question."""
    texts = {i: "\n".join([*asked[: len(answers[i]) + 1], *answers[i]]) for i, _, asked in items}
    lengths = {text: len(processor.tokenizer(text)["input_ids"]) for text in set(texts.values())}
    items.sort(key=lambda item: (lengths[texts[item[0]]], _architecture_key(item[1]), item[0]))
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    prepared = ahead(lambda batch: _inputs(processor, batch, answers), batches)
    for batch, inputs in zip(batches, prepared, strict=True):
        ids = model.generate(**inputs.to(model.device), **options)
        for (i, _, _), text in zip(batch, processor.post_process(ids, inputs), strict=True):
            answers[i].append(text)


def _load(nerf: NerfLike, place: int, on_error: OnError | None) -> list[Any]:
    try:
        if not isinstance(nerf, str | os.PathLike):
            return [nerf]
        return [read_embedding(nerf) if Path(nerf).suffix in (".npy", ".h5") else load_nerf(nerf)]
    except (ValueError, OSError) as error:
        if on_error is None:
            raise
        on_error(place, error)
        return []


def _architecture_key(nerf: Any) -> str:
    return nerf.architecture.name if isinstance(nerf, Nerf) else ""


def _inputs(processor: LlanaGmnProcessor, batch: Sequence[_Loaded], answers: Mapping[int, Sequence[str]]) -> Any:
    return processor.apply_chat_template(
        [_messages(nerf, asked, answers[i]) for i, nerf, asked in batch],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


def _messages(nerf: Any, questions: Sequence[str], answers: Sequence[str]) -> list[dict[str, Any]]:
    """The conversation up to the first question without an answer."""
    first, *others = questions[: len(answers) + 1]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "nerf", "nerf": nerf}, {"type": "text", "text": first}]}
    ]
    for answer, question in zip(answers, others, strict=True):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]
    return messages


class CaptionFile(RecordFile):
    """A JSONL file of ``{"nerf", "question", "caption"}``, filled by any number of processes, in the order of its inputs.

    Args:
        path: the file.
        nerfs: the inputs, in order.
        question: asked of each.
        settings: everything else that decides what the captions are; a file made with others is refused.
        rank, world_size: of this process.

    Raises:
        ValueError: a file that was written with other settings, or is not such a file.
    """

    def __init__(
        self, path: StrPath, nerfs: Sequence[StrPath], *, question: str, settings: Mapping[str, Any], **place: int
    ) -> None:
        self._question = question
        super().__init__(path, nerfs, settings={"question": question, **settings}, name_field="nerf", **place)

    def write(self, nerf: str, caption: str) -> None:
        self.append({"nerf": nerf, "question": self._question, "caption": caption})


remove_captions = remove_records
