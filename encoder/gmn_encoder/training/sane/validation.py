"""How good a SANE encoder is on objects that it has not seen. Shapes: N objects."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...encoders.tokens.sequence import KINDS, POSE
from ...pose.rotations import geodesic_angle
from ...progress import Progress, no_progress
from ..representation.validation import recall_at_1
from .batches import SaneBatches
from .losses import nt_xent
from .model import SaneModel

CHANCE_DEGREES = 126.5
"""Mean angle between two random rotations; the median is 132."""


class ShareOfVariance:
    """R^2 of reconstructed token values, each place of a token by itself: 0 where nothing but its mean is known."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], list[Tensor]] = {}

    def add(self, kind: int, values: Tensor, target: Tensor, mask: Tensor) -> None:
        """Values and target ``(B, C, W)`` of tokens of a kind, and where these have values ``(C, W)``."""
        key, there = (kind, target.shape[1]), mask.double()
        target, values = target.double(), values.double()
        sums = [
            ((values - target).square() * there).sum(),
            (target * there).sum(dim=0),
            (target.square() * there).sum(dim=0),
            there * len(target),
        ]
        before = self._sums.get(key)
        self._sums[key] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]

    def result(self) -> dict[str, float]:
        """``r2/KIND`` of each kind that was added."""
        found = {}
        for kind, name in enumerate(KINDS):
            parts = [sums for (own, _), sums in self._sums.items() if own == kind]
            if parts:
                left = sum(float(sums[0]) for sums in parts)
                spread = sum(float((s[2] - s[1].square() / s[3].clamp(min=1)).sum()) for s in parts)
                found[f"r2/{name}"] = 1 - left / max(spread, 1e-12)
        return found


@torch.no_grad()
def validate(model: SaneModel, batches: SaneBatches, *, progress: Progress = no_progress) -> dict[str, float]:
    """Metrics: the rotation error in degrees, R^2 of each kind of token, and how often an object is found again in another view.

    Args:
        model: the model, in evaluation mode.
        batches: those of the validation objects; the recipe's `validation_objects` are taken.
        progress: receives the objects done and all.

    Returns:
        ``rotation`` (median), ``rotation/mean``, ``rotation/within_30`` (share), ``recall@1``, ``ntxent``, ``r2/KIND`` and
        ``reconstruction``, their mean.

    Raises:
        FieldError: a field that is not finite.
    """
    objects = batches.data.object_ids[: batches.recipe.validation_objects or None]
    errors, firsts, seconds, projected = [], [], [], []
    shares = ShareOfVariance()
    done = 0
    for batch in batches.fixed(objects):
        sides = [model.see(batch.first), model.see(batch.second)]
        errors.append(torch.rad2deg(geodesic_angle(model.rotations(sides, batch), batch.rotation)))
        pooled = [model.embeddings(side, part) for side, part in zip(sides, (batch.first, batch.second), strict=True)]
        firsts.append(pooled[0])
        seconds.append(pooled[1])
        one, other = (model.encoder.project(each) for each in pooled)
        projected.append(nt_xent(one, other, model.recipe.temperature))
        for view in (view for side in sides for view in side):
            values = model.encoder.reconstruct(view)
            for kind in range(POSE):
                chosen = view.tokens.kinds == kind
                if bool(chosen.any()):
                    parts = (values[:, chosen], view.tokens.values[:, chosen], view.tokens.mask[chosen])
                    shares.add(kind, *parts)
        done += len(batch.rotation)
        progress("validating", done, len(objects))
    error = torch.cat(errors)
    found = shares.result()
    return {
        "rotation": float(error.median()),
        "rotation/mean": float(error.mean()),
        "rotation/within_30": float((error < 30).float().mean()),
        "recall@1": recall_at_1(torch.cat(seconds), torch.cat(firsts)),
        "ntxent": float(torch.stack(projected).mean()),
        "reconstruction": sum(found.values()) / max(len(found), 1),
        **found,
    }


def best_of(select: str) -> tuple[str, bool]:
    """The metric that a recipe's `select` means, and whether its lowest value is the best."""
    names: Mapping[str, tuple[str, bool]] = {
        "rotation": ("rotation", True),
        "recall": ("recall@1", False),
        "reconstruction": ("reconstruction", False),
    }
    return names[select]
