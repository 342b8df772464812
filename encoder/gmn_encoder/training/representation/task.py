"""Training of an encoder, as a `TrainingTask`: what is trained on which NeRFs, and how a run of it is put together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...datasets import NerfDataset, ObjectId, PairedDataset
from ...digests import DIGESTS_NAME, Digests, digest_of
from ...files import StrPath
from ...nerfs.files import weights_file
from ...progress import Progress
from ...rendering.camera_files import camera_file
from ...rendering.occupancy import GRID_NAME
from ..loop import Reports, TrainingLoop, gather_rows
from .batches import BatchMaker, TrainingBatch
from .model import TrainedModel
from .recipe import Recipe
from .start import start_from
from .validation import Validation

if TYPE_CHECKING:
    from accelerate import Accelerator

_METRICS = {"psnr": "psnr", "recall": "recall@1", "siglip": "siglip"}


class EncoderTask:
    """An encoder with decoder and contrastive loss, on NeRFs of several families.

    Args:
        recipe: all settings of the run.
        data: root of the data set: a directory for each of the recipe's families, and the lists train.txt and val.txt.
        init: checkpoint whose weights a new run starts from.
        device: the device that teachers are rendered on and batches are moved to.
        process, processes: number of this process and of all, which share each step.
        digests: digests of files that are remembered, by which a continued run tells whether the NeRFs changed; None to go by
            the lists of objects alone.

    Raises:
        FileNotFoundError, ValueError: data that are missing or do not fit, in one sentence.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: StrPath,
        *,
        init: StrPath | None = None,
        device: torch.device | str = "cpu",
        process: int = 0,
        processes: int = 1,
        digests: Digests | None = None,
    ) -> None:
        self.recipe, self._init = recipe, init
        train, held_out = (members_of(data, recipe.families, split) for split in ("train", "val"))
        self.maker = BatchMaker(train, recipe, device=device, process=process, processes=processes)
        self.validation = Validation(
            held_out,
            recipe,
            watched=_watched(data, recipe, held_out),
            device=device,
            process=process,
            processes=processes,
            gather=gather_rows,
        )
        self.model = TrainedModel(recipe)
        self.steps_per_epoch = self.maker.steps_per_epoch
        self.data_digest = hashlib.sha256("\n".join("/".join(each) for each in train.object_ids).encode()).hexdigest()
        if digests is not None:
            self.data_digest += f":{content_of([train, held_out], digests, rendered=recipe.renders)}"
        self.best_metric = _METRICS[recipe.selection]
        self.lower_is_better = recipe.selection == "siglip"

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.model.parameter_groups()

    def batches(self, epoch: int, *, first: int = 0) -> Iterator[TrainingBatch]:
        return self.maker.epoch(epoch, first=first)

    def validate(self, progress: Progress) -> dict[str, float]:
        return self.validation.run(self.model, progress=progress)

    def state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.model.named_children()}

    def load_state(self, content: Mapping[str, Any]) -> None:
        for name, part in self.model.named_children():
            part.load_state_dict(content[name])

    def begin(self) -> str | None:
        if self._init is not None:
            return f"starting from the {', '.join(start_from(self.model, self._init))} of {self._init}"
        return None

    def save(self, directory: Path) -> None:
        self.model.encoder.save_pretrained(directory)


def encoder_training(
    recipe: Recipe,
    data: StrPath,
    *,
    out: StrPath,
    accelerator: Accelerator | None = None,
    resume: bool = True,
    init: StrPath | None = None,
    reports: Reports | None = None,
) -> TrainingLoop:
    """A run that trains an encoder, ready to `run`. Arguments and errors are those of `EncoderTask` and `TrainingLoop`."""
    if accelerator is None:
        from accelerate import Accelerator

        accelerator = Accelerator()
    # The main process looks at the data for all: it writes the checkpoints.
    digests = Digests(Path(out, DIGESTS_NAME)) if accelerator.is_main_process else None
    task = EncoderTask(
        recipe,
        data,
        init=init,
        device=accelerator.device,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        digests=digests,
    )
    return TrainingLoop(task, recipe, out=out, accelerator=accelerator, resume=resume, reports=reports)


def content_of(sets: Sequence[PairedDataset], digests: Digests, *, rendered: bool) -> str:
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


def _watched(data: StrPath, recipe: Recipe, held_out: PairedDataset) -> dict[str, NerfDataset]:
    """The directories that validation measures besides, see `Recipe.watch`."""
    objects = held_out.object_ids[: recipe.validation_objects or len(held_out)]
    root = Path(data)
    names = recipe.watch
    if names is None:
        others = sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
        names = tuple(each for each in others if each not in recipe.families and _holds(root / each, objects))
    watched = {name: NerfDataset(root / name, "val") for name in names}
    for name, members in watched.items():
        if missing := set(members.missing()).intersection(objects):
            raise ValueError(
                f"{root / name}: {len(missing)} of {len(objects)} validation objects are missing, such as "
                f"{'/'.join(min(missing))}; expected all of them in a directory that is watched"
            )
    return watched


def _holds(directory: Path, objects: Sequence[ObjectId]) -> bool:
    return all(directory.joinpath(*each).is_dir() for each in objects)


def members_of(data: StrPath, families: Sequence[str], split: str) -> PairedDataset:
    """The objects of a split in some families. Raises `ValueError` where there are none."""
    members = PairedDataset(data, families, split=split)
    if not len(members):
        raise ValueError(f"{Path(data) / (split + '.txt')}: names no objects; expected lines class_id/nerf_id")
    return members
