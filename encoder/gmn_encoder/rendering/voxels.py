"""Voxels of the world box: which one a point is in, how it is numbered, where it lies.

A voxel ``(ix, iy, iz)`` of G along an axis has the number ``(ix * G + iy) * G + iz`` and covers ``1.4 / G`` world units from -0.7
on along each axis (docs/released_format.md#occupancy-grid). Shapes: G voxels along an axis, A any number of points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..nerfs.fields import BOX_MAX, BOX_MIN

RESOLUTION = 96
"""Voxels along an axis of the released grids."""
DIAGONAL = (BOX_MAX - BOX_MIN) * math.sqrt(3)
"""Length of the box's diagonal, world units."""


def voxel_width(resolution: int) -> float:
    """Side of a voxel in world units, of `resolution` voxels along an axis."""
    return (BOX_MAX - BOX_MIN) / resolution


def float32_box() -> tuple[float, float]:
    """Lower border and side of the box as float32 arithmetic has them, which decides the last bit of unit coordinates."""
    low, high = torch.tensor([BOX_MIN, BOX_MAX], dtype=torch.float32)
    return float(low), float(high - low)


def world_from_unit(unit: Tensor) -> Tensor:
    """Points of the unit cube ``(..., 3)`` in world coordinates."""
    return unit * (BOX_MAX - BOX_MIN) + BOX_MIN


def voxels_of_unit(unit: Tensor, resolution: int, *, dtype: torch.dtype = torch.int64) -> Tensor:
    """The voxels that points of the unit cube are in, indices of the shape of `unit`; outside the cube the nearest voxels."""
    return (unit * resolution).clamp_(0, resolution - 1).to(dtype)


def voxel_numbers(indices: Iterable[Tensor], resolution: int) -> Tensor:
    """Numbers of voxels in a grid laid out flat, from their x, y and z indices, three tensors of integers of one shape."""
    x, y, z = indices
    return x.mul(resolution).add_(y).mul_(resolution).add_(z)


def numbers_at(xyz: Tensor, resolution: int) -> Tensor:
    """Numbers ``(A,)`` of the voxels that world points ``(A, 3)`` are in, outside the box of the nearest ones."""
    unit = (xyz - BOX_MIN) / (BOX_MAX - BOX_MIN)
    return voxel_numbers(voxels_of_unit(unit, resolution).unbind(dim=-1), resolution)


def voxels_of_numbers(numbers: Tensor, resolution: int) -> Tensor:
    """The indices ``(..., 3)`` of numbered voxels ``(...)``."""
    return torch.stack([numbers // resolution**2, numbers // resolution % resolution, numbers % resolution], dim=-1)


def points_in_voxels(voxels: Tensor, fraction: Tensor | float, resolution: int) -> Tensor:
    """World coordinates of points in voxels.

    Args:
        voxels: indices, of any shape.
        fraction: position within the voxel along the same axes, 0..1; 0.5 is its middle.
        resolution: voxels along an axis.
    """
    return (voxels + fraction) * voxel_width(resolution) + BOX_MIN


def voxel_centers(resolution: int = RESOLUTION, *, device: torch.device | str | None = None) -> Tensor:
    """World coordinates ``(G, G, G, 3)`` of the centres of all voxels, float32."""
    axis = points_in_voxels(torch.arange(resolution, device=device), 0.5, resolution)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
