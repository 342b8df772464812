"""Checkpoints of training runs: the whole state of a run, and beside it what others open.

    <out>/last/  <out>/best/    trainer.pth, and what the task writes (an encoder: config.json, model.safetensors)

`trainer.pth` has the keys of a released checkpoint (docs/released_format.md#checkpoints) and what an exact continuation needs
besides. Each file appears by a rename, and `trainer.pth` alone is what a run continues from: a kill at any moment leaves one that
is whole.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import read_tensors, write_pth_content
from .recipe import RunRecipe

logger = logging.getLogger(__name__)

TRAINER_NAME = "trainer.pth"
LAST, BEST = "last", "best"
_FORMAT = 1


def write_checkpoint(
    directory: Path,
    parts: Mapping[str, Any],
    *,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    progress: Mapping[str, Any],
) -> None:
    """Write a `trainer.pth`. Raises `OSError` where it cannot be written; the one before then stays.

    Args:
        directory: ``last`` or ``best`` of a run.
        parts: state dicts of what is trained, by name.
        optimizer, scheduler: optimiser and schedule, as they are after a step.
        progress: numbers and words: recipe, steps done, metrics.
    """
    state = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    write_pth_content({"format": _FORMAT, **progress, **parts, **state}, directory / TRAINER_NAME)


def read_checkpoint(path: Path, parts: Iterable[str]) -> dict[str, Any]:
    """The content of a `trainer.pth` with these parts. Raises `ValueError` for any other file."""
    content, _ = read_tensors(path)
    needed = {"format", "recipe", "step", "optimizer", "scheduler", *parts}
    if missing := sorted(needed - set(content)):
        raise ValueError(
            f"{path}: is no checkpoint of a training run, {missing[0]!r} is missing; move it away to begin anew"
        )
    return content


def check_same_run(path: Path, content: Mapping[str, Any], recipe: RunRecipe, *, data: str, processes: int) -> None:
    """Raise `ValueError` where a run differs from the one that a checkpoint is of: it would end somewhere else.

    Args:
        path: the checkpoint.
        content: the checkpoint's content.
        recipe: the recipe of the run.
        data: digest of the objects that the run trains on, and behind a colon, where it is known, that of their content.
        processes: number of processes.
    """
    changed = recipe.differences(recipe.from_dict(json.loads(content["recipe"]), source=path))
    if changed:
        key, (now, before) = next(iter(changed.items()))
        more = f" and {len(changed) - 1} more settings" if len(changed) > 1 else ""
        raise ValueError(
            f"{path}: was trained with {key}={before}, and now {key}={now} is asked for{more}; "
            "use the same recipe, another --out, or --no-resume to begin anew"
        )
    remedy = "use the same data, another --out, or --no-resume to begin anew"
    (objects, _, nerfs), (objects_then, _, nerfs_then) = data.partition(":"), str(content.get("data")).partition(":")
    if objects_then != objects:
        raise ValueError(f"{path}: was trained on other objects than the lists name now; {remedy}")
    if nerfs and nerfs_then and nerfs_then != nerfs:
        raise ValueError(f"{path}: the NeRFs that it was trained on have changed since; {remedy}")
    if nerfs and not nerfs_then:
        logger.warning("%s: does not say what its NeRFs were, which may have changed since", path)
    if content.get("processes") != processes:
        raise ValueError(
            f"{path}: was trained with {content.get('processes')} processes, and now there are {processes}; "
            "use as many as before, or --no-resume to begin anew"
        )
