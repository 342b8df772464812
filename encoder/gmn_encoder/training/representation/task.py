"""Training of an encoder, as a `TrainingTask`: what is trained on which NeRFs, and how a run of it is put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...datasets import NerfDataset, ObjectId, PairedDataset
from ...digests import Digests
from ...files import StrPath
from ...progress import Progress
from ..loop import TrainingLoop, gather_rows
from ..nerf_runs import data_digest, members_of, nerf_training
from .batches import BatchMaker, TrainingBatch
from .model import TrainedModel
from .recipe import Recipe
from .start import start_from
from .validation import Validation

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
        self.data_digest = data_digest(train, held_out, digests, rendered=recipe.renders)
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


def encoder_training(recipe: Recipe, data: StrPath, **options: Any) -> TrainingLoop:
    """A run that trains an encoder, ready to `run`: options of `nerf_training`, errors its and those of `EncoderTask`."""
    return nerf_training(EncoderTask, recipe, data, **options)


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
