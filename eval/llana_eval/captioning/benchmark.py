"""A run of the captioning benchmark: conversations of a data set, what a model answers to them, and the records to score.

Source: docs/released_format.md#shapenerf-text, #generation. Protocol ``full`` asks every turn of a conversation after the model's
own earlier answers. Protocol ``llana`` asks as published: the first question only, with whatever white space surrounds it in the
file, and every turn of a conversation is scored against its one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmn_encoder.digests import Digests
from gmn_encoder.embeddings.files import content_hashes
from gmn_encoder.files import StrPath
from llana_gmn.data.conversations import HST, Conversation, conversation_file, read_conversations
from llana_gmn.inference.caption import converse

from .nerf_sources import NerfSources, nerf_sources
from .tasks import Task

LLANA_PLACEHOLDER = "<point>\n"
"""What the published result files leave out of a question."""


@dataclass(frozen=True)
class BenchmarkItem:
    """A conversation to hold.

    Attributes:
        name: name of its answers in the file of a run: the conversation's place in its file.
        conversation: questions and references.
        nerf: file or directory of its NeRF or embedding.
        questions: the questions, in order.
    """

    name: str
    conversation: Conversation
    nerf: Path
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """What a task asks of a data set.

    Attributes:
        task: the task that asks.
        protocol: one of `PROTOCOLS`.
        texts: the file of the conversations.
        test: name of what the NeRFs are, for tables.
        items: the conversations whose NeRF was found.
        problems: one sentence for each that is left out: malformed entries, objects without a NeRF.
    """

    task: Task
    protocol: str
    texts: Path
    test: str
    items: tuple[BenchmarkItem, ...]
    problems: tuple[str, ...]


def load_benchmark(
    task: Task,
    data: StrPath,
    *,
    protocol: str = "full",
    split: str = "test",
    family: str | None = None,
    embeddings: StrPath | None = None,
    limit: int | None = None,
) -> Benchmark:
    """Read a data set's conversations of a task and find their NeRFs (see `nerf_sources`).

    Args:
        limit: most conversations to ask, the first ones; None for all.

    Raises:
        FileNotFoundError, ValueError: texts or NeRFs are not there; nothing is left to ask.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    texts = conversation_file(data, task.conversation_type, split=split)
    found = read_conversations(texts, default_type=HST if task.conversation_type == HST else None)
    sources = nerf_sources(data, split=split, family=family, embeddings=embeddings)
    wanted = [
        each
        for each in found
        if each.conversation_type == task.conversation_type or task.conversation_type == HST  # all of its file
    ][:limit]
    problems = [str(problem) for problem in found.problems]
    items, missing = _items(wanted, sources, as_published=protocol == "llana", dialogue=task.dialogue)
    problems += [f"{texts}: {message}" for message in missing]
    if not items:
        reason = f": {problems[0]}" if problems else ""
        raise ValueError(f"{texts}: holds no {task.conversation_type} to ask{reason}")
    return Benchmark(task, protocol, texts, sources.test, tuple(items), tuple(problems))


def _items(
    conversations: Iterable[Conversation], sources: NerfSources, *, as_published: bool, dialogue: bool
) -> tuple[list[BenchmarkItem], list[str]]:
    items: list[BenchmarkItem] = []
    missing: dict[str, int] = {}
    for each in conversations:
        try:
            nerf = sources.find(each.object_id)
        except ValueError as error:
            missing[str(error)] = missing.get(str(error), 0) + 1
            continue
        asked = [question for question, _ in (each.turns if dialogue and not as_published else each.turns[:1])]
        questions = tuple(asked if as_published else (question.strip() for question in asked))
        items.append(BenchmarkItem(str(each.index), each, nerf, questions))
    return items, [f"{message} ({count} conversations left out)" for message, count in missing.items()]


def asked_of(items: Sequence[BenchmarkItem], known: Digests | None = None) -> dict[str, dict[str, Any]]:
    """Name of each item -> what its answers are of: the object, the questions, and the content of its NeRF.

    Args:
        items: the conversations.
        known: digests of files that are remembered.
    """
    paths = list(dict.fromkeys(item.nerf for item in items))
    hashes = dict(zip(paths, content_hashes(paths, known=known), strict=True))
    return {
        item.name: {
            "object_id": item.conversation.object_id,
            "questions": list(item.questions),
            "sha256": hashes[item.nerf],
        }
        for item in items
    }


def answer(
    model: Any,
    processor: Any,
    items: Sequence[BenchmarkItem],
    *,
    on_error: Callable[[int, Exception], None] | None = None,
    **options: Any,
) -> Iterator[tuple[BenchmarkItem, list[str]]]:
    """Hold the conversations; yields each item with its answers, one a question, in order.

    Args:
        model, processor: a model and its processor, as for `converse`.
        items: the conversations.
        on_error: receives what `converse` gives it; items whose NeRF cannot be read are left out.
        **options: other options of `converse` and `generate`.
    """
    nerfs, turns = [str(item.nerf) for item in items], [item.questions for item in items]
    found = converse(model, processor, nerfs, turns, on_error=on_error, **options)
    return ((items[place], answers) for place, answers in found)


def result_records(benchmark: Benchmark, answers: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The records of a published result file, one a turn, in the order of the conversations.

    Args:
        benchmark: the conversations and their references.
        answers: name of an item -> what was answered; items that are not there have no records.
    """
    return [
        {
            "object_id": item.conversation.object_id,
            "question": question.replace(LLANA_PLACEHOLDER, "").strip(),
            "ground_truth": reference.strip(),
            "model_output": answers[item.name][min(turn, len(answers[item.name]) - 1)],
        }
        for item in benchmark.items
        if item.name in answers
        for turn, (question, reference) in enumerate(item.conversation.turns)
    ]
