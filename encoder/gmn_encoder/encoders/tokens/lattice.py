"""Points that tokens belong to: the same ones for all NeRFs of a batch, so that a position tells nothing of a NeRF.

Shapes: K points.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...nerfs.fields import BOX_MAX, spread_directions

Lattice = Literal["cube", "shells"]

_RADII = (0.15, 0.3, 0.45, 0.6)
_INSIDE = 0.99


def lattice_points(count: int, kind: Lattice) -> Tensor:
    """World coordinates ``(K, 3)`` float32, the same on every call.

    "cube": evenly in the box, a scrambled Sobol sequence; turned, some leave it. "shells": on four spheres about the origin, more
    on the larger ones; turned, they stay in the box.
    """
    with torch.device("cpu"):  # encoders are built on other devices, the one without memory among them
        points = _cube(count) if kind == "cube" else _shells(count)
    return points.to(torch.get_default_device())


def _cube(count: int) -> Tensor:
    unit = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(count)
    return (unit * 2 - 1) * BOX_MAX * _INSIDE


def _shells(count: int) -> Tensor:
    shares = torch.tensor(_RADII).square()
    ends = (shares.cumsum(dim=0) / shares.sum() * count).round().long().tolist()
    counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return torch.cat([spread_directions(n) * radius for n, radius in zip(counts, _RADII, strict=True) if n])
