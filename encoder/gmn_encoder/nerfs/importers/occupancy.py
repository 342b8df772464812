"""Occupancy grids of instant-ngp and its like: cascades of cubes, each about twice as large as the one before, in Morton order.

Shapes: C cascades, G voxels along an axis, S points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cascades_from_morton(occupied: Tensor) -> Tensor:
    """uint8 ``(C, G, G, G)`` from bool ``(C, G^3)`` whose voxels are numbered by interleaving the bits of x (lowest), y and z."""
    size = round(occupied.shape[1] ** (1 / 3))
    axis = torch.arange(size)
    spread = torch.zeros_like(axis)
    for bit in range(max(1, math.ceil(math.log2(size)))):
        spread |= (axis >> bit & 1) << 3 * bit
    number = spread[:, None, None] | spread[:, None] << 1 | spread << 2
    return occupied[:, number.flatten()].view(-1, size, size, size).to(torch.uint8)


def occupied_at(occupied: Tensor, halves: Sequence[float], xyz: Tensor) -> Tensor:
    """Bool ``(S, 1)``: whether points are in an occupied voxel of the smallest cascade that has them.

    Args:
        occupied: uint8 ``(C, G, G, G)``.
        halves: half the side of each cascade's cube about the origin, rising.
        xyz: points ``(S, 3)``.
    """
    borders = xyz.new_tensor(list(halves))
    cascade = torch.searchsorted(borders, xyz.abs().amax(dim=-1).contiguous()).clamp(max=len(borders) - 1)
    size = occupied.shape[1]
    u = xyz / (2 * borders[cascade])[:, None] + 0.5
    x, y, z = (u * size).floor().long().clamp(0, size - 1).unbind(dim=-1)
    return (occupied[cascade, x, y, z] > 0)[:, None]
