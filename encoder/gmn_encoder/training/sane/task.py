"""Training of a SANE encoder, as a `TrainingTask`, and how a run of it is put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ...digests import Digests
from ...encoders.sane.encoder import SaneEncoder
from ...files import StrPath
from ...progress import Progress
from ..loop import TrainingLoop
from ..nerf_runs import data_digest, members_of, nerf_training
from .batches import SaneBatches
from .model import SaneBatch, SaneModel
from .recipe import SaneRecipe
from .validation import best_of, validate


class SaneTask:
    """A SANE encoder on NeRFs of one family or several. Arguments and errors as of `EncoderTask`."""

    def __init__(
        self,
        recipe: SaneRecipe,
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
        self.maker = SaneBatches(train, recipe, device=device, process=process, processes=processes)
        # Every process validates all of the objects: there is little to share.
        self.held_out = SaneBatches(held_out, recipe, device=device)
        self.model = SaneModel(recipe)
        self.steps_per_epoch = self.maker.steps_per_epoch
        self.data_digest = data_digest(train, held_out, digests)
        self.best_metric, self.lower_is_better = best_of(recipe.select)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "lr": self.recipe.learning_rate}]

    def batches(self, epoch: int, *, first: int = 0) -> Iterator[SaneBatch]:
        return self.maker.epoch(epoch, first=first)

    def validate(self, progress: Progress) -> dict[str, float]:
        return validate(self.model, self.held_out, progress=progress)

    def state(self) -> dict[str, Any]:
        return {"encoder": self.model.encoder.state_dict()}

    def load_state(self, content: Mapping[str, Any]) -> None:
        self.model.encoder.load_state_dict(content["encoder"])

    def begin(self) -> str | None:
        if self._init is None:
            return None
        encoder = SaneEncoder.from_pretrained(self._init)
        if encoder.config != self.recipe.encoder_config:
            raise ValueError(
                f"{self._init}: its encoder has other sizes than the recipe's; use the recipe it was made with"
            )
        self.model.encoder.load_state_dict(encoder.state_dict())
        return f"starting from the encoder of {self._init}"

    def save(self, directory: Path) -> None:
        self.model.encoder.save_pretrained(directory)


def sane_training(recipe: SaneRecipe, data: StrPath, **options: Any) -> TrainingLoop:
    """A run that trains a SANE encoder, ready to `run`: options of `nerf_training`, errors its and those of `SaneTask`."""
    return nerf_training(SaneTask, recipe, data, **options)
