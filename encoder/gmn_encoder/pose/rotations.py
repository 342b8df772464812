"""Rotations as unit quaternions ``(w, x, y, z)``, as matrices that turn column vectors, and as vectors of axis times angle.

q and -q are one rotation. Everything is batched and differentiable. Shapes: ``(...)`` any leading shape.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SQUARE_ROOT_2 = math.sqrt(2)
_PSI = 1.533751168755204288118041
"""The positive real root of x^4 = x + 4."""


def unit_quaternion(quaternion: Tensor) -> Tensor:
    """Quaternions ``(..., 4)`` of norm 1 with w >= 0. Raises `ValueError` for norms of zero, and values that are not finite."""
    norm = quaternion.norm(dim=-1, keepdim=True)
    if quaternion.shape[-1:] != (4,) or not bool((norm.isfinite() & (norm > 1e-12)).all()):
        raise ValueError(
            f"a quaternion of shape {list(quaternion.shape)} is of another shape, zero or not finite; "
            "expected four numbers (w, x, y, z), not all zero"
        )
    unit = quaternion / norm
    return torch.where(unit[..., :1] < 0, -unit, unit)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The product ``a b`` of quaternions ``(..., 4)``: the rotation b, then a."""
    real = a[..., :1] * b[..., :1] - (a[..., 1:] * b[..., 1:]).sum(dim=-1, keepdim=True)
    first, second = torch.broadcast_tensors(a[..., 1:], b[..., 1:])
    rest = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + torch.linalg.cross(first, second)
    return torch.cat([real, rest], dim=-1)


def conjugate(quaternion: Tensor) -> Tensor:
    """The inverse of unit quaternions ``(..., 4)``."""
    return quaternion * quaternion.new_tensor([1.0, -1.0, -1.0, -1.0])


def geodesic_angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle ``(...)`` in radians, 0..pi, of the rotation between unit quaternions ``(..., 4)``.

    ``2 atan2(|vec|, |w|)`` of the quotient: unlike the arc cosine of the scalar product it is exact for small angles, and its
    square has a gradient everywhere but at half a turn: zero where the rotations are equal.
    """
    quotient = multiply(a, conjugate(b))
    square = quotient[..., 1:].square().sum(dim=-1)
    positive = square > 0
    length = torch.where(positive, square, 1.0).sqrt()  # the root of zero has no gradient
    return torch.where(positive, 2 * torch.atan2(length, quotient[..., 0].abs()), 0.0)


def matrix_of(quaternion: Tensor) -> Tensor:
    """Matrices ``(..., 3, 3)`` of unit quaternions ``(..., 4)``."""
    w, x, y, z = quaternion.unbind(dim=-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_of(matrix: Tensor) -> Tensor:
    """Unit quaternions ``(..., 4)``, w >= 0, of rotation matrices ``(..., 3, 3)``.

    Each of four ways divides by another of the four numbers; the largest divisor is taken (Shepperd, 1978).
    """
    m = matrix.flatten(-2).unbind(dim=-1)
    trace, off = m[0] + m[4] + m[8], (m[7] - m[5], m[2] - m[6], m[3] - m[1])
    sums = (m[1] + m[3], m[2] + m[6], m[5] + m[7])
    ways = torch.stack(
        [
            torch.stack([1 + trace, off[0], off[1], off[2]], dim=-1),
            torch.stack([off[0], 1 + m[0] - m[4] - m[8], sums[0], sums[1]], dim=-1),
            torch.stack([off[1], sums[0], 1 - m[0] + m[4] - m[8], sums[2]], dim=-1),
            torch.stack([off[2], sums[1], sums[2], 1 - m[0] - m[4] + m[8]], dim=-1),
        ],
        dim=-2,
    )
    best = ways.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    chosen = ways.gather(-2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    return unit_quaternion(chosen)


def quaternion_of_vector(vector: Tensor) -> Tensor:
    """Unit quaternions ``(..., 4)`` of rotations about ``vector (..., 3)`` by its length in radians."""
    angle = vector.norm(dim=-1, keepdim=True)
    return torch.cat([(angle / 2).cos(), torch.sinc(angle / (2 * math.pi)) / 2 * vector], dim=-1)


def euler_angles(matrix: Tensor) -> Tensor:
    """Degrees ``(..., 3)`` about the fixed axes x, then y, then z, of rotation matrices ``(..., 3, 3)``.

    The middle one lies in -90..90; where it is at an end, the last one is 0.
    """
    middle = torch.asin((-matrix[..., 2, 0]).clamp(-1, 1))
    locked = matrix[..., 2, 0].abs() > 1 - 1e-9
    first = torch.where(
        locked,
        torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
        torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2]),
    )
    last = torch.where(locked, 0.0, torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]))
    return torch.rad2deg(torch.stack([first, middle, last], dim=-1))


def spread_rotations(count: int) -> Tensor:
    """`count` unit quaternions ``(count, 4)`` float32, evenly over all rotations: super-Fibonacci spirals (Alexa, CVPR 2022)."""
    place = torch.arange(count, dtype=torch.float64) + 0.5
    share = place / count
    alpha, beta = 2 * math.pi * place / _SQUARE_ROOT_2, 2 * math.pi * place / _PSI
    small, large = share.sqrt(), (1 - share).sqrt()
    parts = [large * beta.cos(), small * alpha.sin(), small * alpha.cos(), large * beta.sin()]
    return F.normalize(torch.stack(parts, dim=-1), dim=-1).float()


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """`count` unit quaternions ``(count, 4)`` float32, uniform over all rotations."""
    return F.normalize(torch.randn(count, 4, generator=generator), dim=-1)
