"""What the recipe of every training run has, whatever is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..files import StrPath
from ..settings import Settings, require_integers, require_numbers, require_positive, require_shares


@dataclass(frozen=True, kw_only=True)
class RunRecipe(Settings):
    """How long and how fast a run trains; recipes of what is trained inherit it and add to it.

    Attributes:
        seed: everything random follows from it: initial weights, batches, what is drawn for them.
        epochs: passes over the objects.
        batch_size: examples in a step of one process.
        accumulation: steps whose gradients are added up for one step of the optimiser.
        learning_rate: AdamW's peak learning rate, the highest of the one-cycle schedule.
        weight_decay: AdamW's weight decay.
        warmup: share of the steps over which the rate rises.
        clip_norm: largest norm of the gradients, to which longer ones are scaled; 0: none.
        validate_every: epochs between validations.
        workers: threads that prepare batches ahead; 0: none.
        checkpoint_seconds: seconds between checkpoints.
        max_seconds: seconds after which to stop with a checkpoint; 0: at the end.
    """

    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset({"workers", "checkpoint_seconds", "max_seconds"})

    seed: int = 0
    epochs: int = 250
    batch_size: int = 8
    accumulation: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    warmup: float = 0.3
    clip_norm: float = 0.0
    validate_every: int = 5
    workers: int = 2
    checkpoint_seconds: float = 60.0
    max_seconds: float = 0.0

    def __post_init__(self) -> None:
        require_integers(self, 1, "epochs", "batch_size", "accumulation", "validate_every")
        require_integers(self, 0, "seed", "workers")
        require_numbers(self, 0, "weight_decay", "clip_norm", "checkpoint_seconds", "max_seconds")
        require_positive(self, "learning_rate")
        require_shares(self, "warmup")


def recipe_file(source: StrPath, folder: Path) -> Path:
    """A YAML file, or by its name one of those in a folder. Raises `FileNotFoundError` for neither."""
    path = Path(source) if Path(source).is_file() else folder / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in folder.glob("*.yaml")))
        raise FileNotFoundError(f"{source}: no such recipe file; expected a .yaml file or one of {names}")
    return path


def require_families(families: Sequence[str]) -> None:
    """Raise `ValueError` for directories of a data set that are none, or named twice."""
    if not families or len(set(families)) != len(families):
        raise ValueError(f"families are {list(families)}; expected different directories, at least one")
