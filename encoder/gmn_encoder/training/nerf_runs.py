"""Runs that train on a data set of NeRFs: its objects, what tells whether they changed, and how such a run is put together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets import PairedDataset
from ..digests import DIGESTS_NAME, Digests, digest_of
from ..files import StrPath
from ..nerfs.files import weights_file
from ..rendering.camera_files import camera_file
from ..rendering.occupancy import GRID_NAME
from .loop import Reports, TrainingLoop, TrainingTask
from .recipe import RunRecipe

if TYPE_CHECKING:
    from accelerate import Accelerator


def nerf_training(
    task: Callable[..., TrainingTask],
    recipe: RunRecipe,
    data: StrPath,
    *,
    out: StrPath,
    accelerator: Accelerator | None = None,
    resume: bool = True,
    init: StrPath | None = None,
    reports: Reports | None = None,
) -> TrainingLoop:
    """A run of a task on NeRFs, ready to `run`.

    Args:
        task: makes the task, from what `EncoderTask` is made from.
        recipe: all settings of the run.
        data: root of the data set.
        out, accelerator, resume, reports: arguments of `TrainingLoop`, whose errors these are.
        init: checkpoint whose weights a new run starts from.
    """
    if accelerator is None:
        from accelerate import Accelerator

        accelerator = Accelerator()
    # The main process looks at the data for all: it writes the checkpoints.
    digests = Digests(Path(out, DIGESTS_NAME)) if accelerator.is_main_process else None
    made = task(
        recipe,
        data,
        init=init,
        device=accelerator.device,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        digests=digests,
    )
    return TrainingLoop(made, recipe, out=out, accelerator=accelerator, resume=resume, reports=reports)


def members_of(data: StrPath, families: Sequence[str], split: str) -> PairedDataset:
    """The objects of a split in some families. Raises `ValueError` where there are none."""
    members = PairedDataset(data, families, split=split)
    if not len(members):
        raise ValueError(f"{Path(data) / (split + '.txt')}: names no objects; expected lines class_id/nerf_id")
    return members


def data_digest(
    train: PairedDataset, held_out: PairedDataset, digests: Digests | None, *, rendered: bool = False
) -> str:
    """What a task is trained on, for `TrainingTask.data_digest`.

    Args:
        train, held_out: the objects that are trained on, and those that are validated on.
        digests: digests of files that are remembered; None to go by the list of objects alone.
        rendered: whether the NeRFs are rendered too, by their grids and cameras.
    """
    found = hashlib.sha256("\n".join("/".join(each) for each in train.object_ids).encode()).hexdigest()
    return found if digests is None else f"{found}:{_content_of([train, held_out], digests, rendered=rendered)}"


def _content_of(sets: Sequence[PairedDataset], digests: Digests, *, rendered: bool) -> str:
    """Digest of the weights of all NeRFs and, where they are rendered, of their grids and cameras."""
    files: dict[str, Path] = {}
    for family, entry in ((family, entry) for each in sets for item in each for family, entry in item.items()):
        name = f"{family}/{entry.class_id}/{entry.nerf_id}"
        files[name] = weights_file(entry.path)
        if rendered:
            files[f"{name} grid"], files[f"{name} cameras"] = entry.path / GRID_NAME, camera_file(entry.path)
    found = digest_of(dict(zip(files, digests.digests(list(files.values())), strict=True)))
    digests.save()
    return found
