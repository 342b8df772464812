"""Asking the field: what NeRFs show at shared points, whatever their weights are.

A NeRF is a function. What it answers at given points does not change when its weights are permuted, rescaled or replaced by
those of another fit of the same object, and it is the same question for every family. It executes the network, though, which
reading weights does not (Kofinas et al., ICLR 2024; Kahana et al., ICLR 2025).

Shapes: B NeRFs, K points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .fields import BOX_MAX, BOX_MIN
from .record import NerfBatch

OPACITY_LENGTH = (BOX_MAX - BOX_MIN) / 32
"""The length over which a density becomes an opacity, world units: a 32nd of the side of the box."""

_EMPTY, _FULL = 0.02, 0.98


class FieldError(ValueError):
    """A field that cannot be read.

    Attributes:
        row: which NeRF of the stack it is.
        problem: the sentence, without the name of the NeRF.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"NeRF {row} of the batch: {problem}")
        self.row, self.problem = row, problem


@torch.no_grad()
def visible_field(nerfs: NerfBatch, points: Tensor) -> Tensor:
    """What NeRFs show at points: colour times opacity, and opacity.

    Evaluated in float32 whatever the dtypes are: NeRFs were trained in it, rounding of their highest frequencies included
    (docs/released_format.md#frequency-encoding). No gradient.

    Args:
        nerfs: NeRFs of one architecture.
        points: world coordinates ``(K, 3)`` for all, or ``(B, K, 3)``.

    Returns:
        float32 ``(B, K, 4)``: ``rgb * alpha`` and ``alpha = 1 - exp(-density * OPACITY_LENGTH)``, all in 0..1, on the device of
        the points; zero outside the box of the architecture.

    Raises:
        FieldError: a colour or a density is not finite somewhere, or none of the points lies in the architecture's box.
    """
    xyz = points.float().expand(len(nerfs), -1, -1)
    low, high = (torch.tensor(corner, device=xyz.device) for corner in nerfs.architecture.box)
    if not bool(((xyz > low) & (xyz < high)).all(dim=-1).any()):
        raise FieldError(
            0,
            f"its box {list(nerfs.architecture.box)} holds none of the points of the probes; expected a NeRF in ±{BOX_MAX}",
        )
    with torch.autocast(xyz.device.type, enabled=False):
        rgb, density = nerfs.query(xyz)
    finite = (rgb.isfinite().all(dim=-1) & density[..., 0].isfinite()).all(dim=-1)
    if not bool(finite.all()):
        raise FieldError(int((~finite).nonzero()[0]), "its field is NaN or infinite somewhere; expected finite values")
    return shown(rgb, density)


def shown(rgb: Tensor, density: Tensor) -> Tensor:
    """``(..., 4)`` in float32: colours ``(..., 3)`` times opacity, and opacity ``1 - exp(-density * OPACITY_LENGTH)``."""
    alpha = -torch.expm1(-density.float() * OPACITY_LENGTH)
    return torch.cat([rgb.float() * alpha, alpha], dim=-1)


def whole_field(values: Tensor) -> list[str | None]:
    """Which of some fields ``(B, K, 4)`` of `visible_field` have nothing to see in them: "empty", "full" or None for each."""
    alpha = values[..., 3]
    empty, full = (alpha < _EMPTY).all(dim=-1).tolist(), (alpha > _FULL).all(dim=-1).tolist()
    return ["empty" if none else "full" if all_ else None for none, all_ in zip(empty, full, strict=True)]
