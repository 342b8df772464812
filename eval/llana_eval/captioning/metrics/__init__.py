"""The metrics as modules of the library `evaluate`, each a file that its loader takes by path, without a network.

``evaluate.load(str(metric_path("bleu")))`` or ``llana_eval.captioning.metrics.bleu.Bleu()``; both have `compute(predictions=...,
references=...)`, which gives means in 0..100. `score_captions` calls the same functions without the loader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

MODULES = ("bleu", "rouge", "meteor", "sbert", "simcse")


def metric_path(name: str) -> Path:
    """The file of a module, for `evaluate.load`. Raises `ValueError` for an unknown name."""
    if name not in MODULES:
        raise ValueError(f"metric module {name!r} is unknown; expected one of {', '.join(MODULES)}")
    return Path(__file__).parent / f"{name}.py"


def means(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each metric's scores. Raises `ValueError` where there are none."""
    if not all(scores.values()):
        raise ValueError("no predictions to score; expected at least one")
    return {name: sum(values) / len(values) for name, values in scores.items()}
