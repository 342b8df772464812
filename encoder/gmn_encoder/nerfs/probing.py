"""Asking the field: what NeRFs show at shared points, whatever their weights are.

A NeRF is a function. What it answers at given points does not change when its weights are permuted, rescaled or replaced by
those of another fit of the same object, and it is the same question for every family. It executes the network, though, which
reading weights does not (Kofinas et al., ICLR 2024; Kahana et al., ICLR 2025).

Shapes: B NeRFs, K points.
"""

from __future__ import annotations

import itertools

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


GRID_SPAN = 0.69
"""Half the side of the cube that `field_grid` spans: strictly inside the box."""


def field_grid(nerfs: NerfBatch, side: int) -> Tensor:
    """`visible_field` on a grid of `side` points along each axis, float16 ``(B, side ** 3, 4)``, x outermost."""
    places = torch.linspace(-GRID_SPAN, GRID_SPAN, side)
    return visible_field(nerfs, torch.cartesian_prod(places, places, places)).half()


def read_grid(grids: Tensor, points: Tensor) -> Tensor:
    """What grids of `field_grid` show between their points, trilinear: a twentieth of the time of asking the fields.

    Args:
        grids: float16 ``(B, side ** 3, 4)``.
        points: world coordinates ``(B, K, 3)``.

    Returns:
        float32 ``(B, K, 4)``; zero outside the cube that the grids span.
    """
    side = round(grids.shape[1] ** (1 / 3))
    place = (points + GRID_SPAN) * ((side - 1) / (2 * GRID_SPAN))
    inside = ((place >= 0) & (place <= side - 1)).all(dim=-1)
    low = place.floor().clamp(0, side - 2)
    part = (place - low).clamp(0, 1)
    first = torch.arange(len(grids), device=grids.device)[:, None] * side**3
    first = first + (low.long() * torch.tensor([side * side, side, 1], device=grids.device)).sum(dim=-1)
    rows, total = grids.flatten(0, 1), torch.zeros(*points.shape[:2], 4, device=grids.device)
    along = [(1 - share, share) for share in part.unbind(dim=-1)]
    for x, y in itertools.product((0, 1), repeat=2):
        face = along[0][x] * along[1][y] * inside
        for z in (0, 1):
            corner = rows[first + ((x * side + y) * side + z)]
            total.addcmul_((face * along[2][z])[..., None], corner.float())
    return total


def whole_field(values: Tensor) -> list[str | None]:
    """Which of some fields ``(B, K, 4)`` of `visible_field` have nothing to see in them: "empty", "full" or None for each."""
    alpha = values[..., 3]
    empty, full = (alpha < _EMPTY).all(dim=-1).tolist(), (alpha > _FULL).all(dim=-1).tolist()
    return ["empty" if none else "full" if all_ else None for none, all_ in zip(empty, full, strict=True)]
