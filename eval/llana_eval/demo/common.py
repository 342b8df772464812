"""What both demos do: embed the NeRFs that ship, ask about embeddings, and say where the page is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.progress import Progress, no_progress
from llana_gmn.inference.caption import caption_nerfs

from ..tables import Table

OPTIONS: dict[str, Any] = {"batch_size": 32, "max_new_tokens": 48}
"""Of `caption_nerfs` and `answer`."""


@dataclass(frozen=True)
class DemoResult:
    """What a demo found: the tables of its report, the path of that, and the seconds that it took."""

    tables: tuple[Table, ...]
    report: Path
    seconds: float


def shipped_families(nerfs: Path) -> dict[str, str]:
    """Directory -> the paper's name, of the families that are there: a program may know more."""
    return {directory: name for directory, name in FAMILY_NAMES.items() if (nerfs / directory).is_dir()}


def embed_families(
    model: Any, nerfs: Path, out: Path, progress: Progress = no_progress, *, tokens: bool = False
) -> dict[str, EmbeddingSet]:
    """Embeddings of each family's NeRFs, by the paper's name, kept in the cache ``<out>/embeddings``.

    With `tokens` they are what the model reads, which may be several vectors a NeRF; else one vector, to compare NeRFs by.

    Raises `FileNotFoundError` or `ValueError` for NeRFs that are missing or broken.
    """
    sets, families = {}, shipped_families(nerfs)
    several = tokens and model.config.vectors_per_nerf > 1
    cache = EmbeddingCache(out / "embeddings", model.nerf_encoder, batch_size=16, tokens=several)
    for number, (directory, name) in enumerate(families.items(), 1):
        sets[name] = cache.embed_family(nerfs / directory)
        if sets[name].problems:
            raise ValueError(sets[name].problems[0])
        progress("embedding the NeRFs that ship", number, len(families))
    return sets


def ask_about(
    model: Any, processor: Any, embeddings: Tensor, questions: Sequence[str], *, stage: str, progress: Progress
) -> list[tuple[str, ...]]:
    """The answers to each question about each NeRF, every question in a conversation of its own.

    Args:
        model, processor: a model and its processor, from `load_model`.
        embeddings: what the model reads of n NeRFs, ``(n, D)`` or ``(n, V, D)``.
        questions: the questions about each NeRF.
        stage: name of the work for `progress`, which receives the number of answers.
    """
    asked = [(embedding, question) for embedding in embeddings for question in questions]
    shown, texts = zip(*asked, strict=True)
    answers = []
    for _, answer in caption_nerfs(model, processor, shown, question=texts, **OPTIONS):
        answers.append(answer)
        progress(stage, len(answers), len(asked))
    return list(zip(*[iter(answers)] * len(questions), strict=True))
