"""How a source's own world is brought into the world box, and the way back.

``x' = scale * turn @ (x - center)``, where `turn` takes the source's up to z. A density per unit becomes ``density / scale``, for
the opacity of what a ray passes to stay the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Vector = tuple[float, float, float]


_AXES: dict[str, Vector] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def direction(text: str) -> Vector:
    """The direction that a user names: ``z``, ``-y`` or ``0,0,1``. Raises `ValueError` for what names none."""
    word = text.strip().lower()
    axis = _AXES.get(word.lstrip("+-"))
    if axis is None:
        return vector(text)
    return (-axis[0], -axis[1], -axis[2]) if word.startswith("-") else axis


def vector(text: str) -> Vector:
    """Three numbers with commas between them. Raises `ValueError` for anything else."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} are not three numbers; expected such as 0,0,1") from None
    return x, y, z


@dataclass(frozen=True, kw_only=True)
class PlacementRequest:
    """What a user says about where the object is; None: to be found.

    Attributes:
        center: the point of the source's world that becomes the origin.
        scale: world units for each unit of the source.
        up: the direction of the source's world that becomes z.

    Raises:
        ValueError: numbers that place nothing.
    """

    center: Vector | None = None
    scale: float | None = None
    up: Vector | None = None

    def __post_init__(self) -> None:
        if self.center is not None and not all(map(math.isfinite, self.center)):
            raise ValueError(f"the centre is {self.center}; expected three finite numbers")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"the scale is {self.scale}; expected a positive number")
        if self.up is not None and not (all(map(math.isfinite, self.up)) and math.hypot(*self.up) > 0):
            raise ValueError(f"the direction of up is {self.up}; expected three numbers, not all zero")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a source's world was brought: attributes as of `PlacementRequest`, all known, and the words for how."""

    center: Vector
    scale: float
    up: Vector = (0.0, 0.0, 1.0)
    found_by: str = ""

    @property
    def turn(self) -> Tensor:
        """The smallest rotation ``(3, 3)`` float64 that takes `up` to z; half a turn about x for -z."""
        x, y, z = (part / math.hypot(*self.up) for part in self.up)
        if z < -1 + 1e-9:
            return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
        k = 1 / (1 + z)
        rows = [[1 - k * x * x, -k * x * y, -x], [-k * x * y, 1 - k * y * y, -y], [x, y, z]]
        return torch.tensor(rows, dtype=torch.float64)

    def to_box(self, xyz: Tensor) -> Tensor:
        """Points of the source ``(..., 3)`` in the world of the box."""
        return (xyz - xyz.new_tensor(self.center)) @ self.turn.to(xyz).T * self.scale

    def to_source(self, xyz: Tensor) -> Tensor:
        """Points of the box's world ``(..., 3)`` in the source's."""
        return xyz / self.scale @ self.turn.to(xyz) + xyz.new_tensor(self.center)

    def directions_to_source(self, directions: Tensor) -> Tensor:
        """Directions ``(..., 3)`` of the box's world in the source's, of the same length."""
        return directions @ self.turn.to(directions)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the record of a fit."""
        return {
            "center": list(self.center),
            "scale": self.scale,
            "up": list(self.up),
            "turn": self.turn.tolist(),
            "found_by": self.found_by,
            "meaning": "x_box = scale * turn @ (x_source - center); density_box = density_source / scale",
        }
