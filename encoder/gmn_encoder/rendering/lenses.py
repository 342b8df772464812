"""Lens distortion: where a camera with a real lens shows a direction, and which direction a point of its image shows.

Two models, as OpenCV, COLMAP, instant-ngp and nerfstudio have them, in coordinates of the undistorted image plane (x right, y
down, the optical axis at 0, one focal length = 1):

    OPENCV          r = distance from the axis in the plane, (x, y) -> (x, y) * (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8)
                    + (2 p1 x y + p2 (r^2 + 2 x^2), p1 (r^2 + 2 y^2) + 2 p2 x y)
    OPENCV_FISHEYE  t = angle from the axis, shown t * (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8) from it

Both bend a radius by the same polynomial, which is inverted by Newton's method between bounds, to the precision of float64. The
polynomial may turn back: beyond the first place where it does, nothing is shown, and image points that it never reaches show
nothing (`Lens.directions` says which).

Shapes: V cameras, N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Names of a lens's coefficients, in the order of `Lens.coefficients`."""

_WIDEST = 100.0  # tangent of the widest angle from the axis of an OPENCV lens that counts: 89.4 degrees
_ITERATIONS = 60
_CONVERGED = 1e-12  # focal lengths


@dataclass(frozen=True, eq=False)
class Lens:
    """The lenses of V cameras.

    Attributes:
        coefficients: ``(V, 6)``: k1, k2, k3, k4, p1, p2 (of fisheye lenses p1 and p2 are not used).
        fisheye: bool ``(V,)``: which lenses are OPENCV_FISHEYE; the others are OPENCV.

    Raises:
        ValueError: wrong shapes, or coefficients that are not finite.
    """

    coefficients: Tensor
    fisheye: Tensor

    def __post_init__(self) -> None:
        views = len(self.fisheye)
        if tuple(self.coefficients.shape) != (views, len(COEFFICIENTS)) or self.fisheye.dtype != torch.bool:
            raise ValueError(
                f"lenses have coefficients {list(self.coefficients.shape)} and fisheye {self.fisheye.dtype} "
                f"{list(self.fisheye.shape)}; expected (V, {len(COEFFICIENTS)}) and bool (V,)"
            )
        if not bool(torch.isfinite(self.coefficients).all()):
            raise ValueError("lenses have coefficients that are not finite; expected numbers")
        widest = [
            _turning_point(row[:4], math.pi if fisheye else _WIDEST)
            for row, fisheye in zip(self.coefficients.tolist(), self.fisheye.tolist(), strict=True)
        ]
        object.__setattr__(self, "_widest", torch.tensor(widest, dtype=torch.float64, device=self.fisheye.device))

    def __getitem__(self, index: list[int]) -> Lens:
        return Lens(self.coefficients[index], self.fisheye[index])

    @classmethod
    def pinhole(cls, views: int, *, device: torch.device | None = None) -> Lens:
        """Lenses that distort nothing."""
        coefficients = torch.zeros(views, len(COEFFICIENTS), dtype=torch.float64, device=device)
        return cls(coefficients, torch.zeros(views, dtype=torch.bool, device=device))

    @classmethod
    def cat(cls, parts: Sequence[Lens]) -> Lens:
        return cls(torch.cat([each.coefficients for each in parts]), torch.cat([each.fisheye for each in parts]))

    def to(self, device: torch.device) -> Lens:
        return Lens(self.coefficients.to(device), self.fisheye.to(device))

    @property
    def widest(self) -> Tensor:
        """float64 ``(V,)``: the largest radius (OPENCV: in the plane; fisheye: radians) that is shown."""
        return getattr(self, "_widest")  # noqa: B009 (set once, past the frozen dataclass)

    def image_points(self, views: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Where directions are shown.

        Args:
            views: int64 ``(N,)``: which camera.
            seen: ``(N, 3)`` directions in camera axes x right, y down, z forwards; of any length.

        Returns:
            float64 ``(N, 2)`` points of the image in focal lengths from the principal point, and bool ``(N,)``, whether they are
            shown at all.
        """
        c, fisheye, widest = self.coefficients[views].double(), self.fisheye[views], self.widest[views]
        seen = seen.double()
        across, forwards = seen[:, :2].norm(dim=1), seen[:, 2]
        unit = seen[:, :2] / across.clamp(min=1e-300)[:, None]
        radius = torch.where(fisheye, torch.atan2(across, forwards), across / forwards.clamp(min=1e-300))
        shown = (radius <= widest) & (fisheye | (forwards > 0))
        radius = torch.minimum(radius, widest)
        point = unit * _bent(c, radius)[:, None]
        return point + _tangential(c, unit * radius[:, None]).masked_fill(fisheye[:, None], 0), shown

    def directions(self, views: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Which directions points of the image show: the inverse of `image_points`.

        Args:
            views: int64 ``(N,)``: which camera.
            points: ``(N, 2)`` points of the image in focal lengths from the principal point, x right, y down.

        Returns:
            float64 ``(N, 3)`` directions, x right, y down, z forwards, with z = 1 for OPENCV lenses and of length one for fisheye
            lenses; and bool ``(N,)``: whether `image_points` leads from there to the point again. Where it does not, the lens
            shows nothing, and the direction is the nearest that is shown.
        """
        c, fisheye, widest = self.coefficients[views].double(), self.fisheye[views], self.widest[views]
        points = points.double()
        radius, found = _unbent(c, points.norm(dim=1), widest)
        unit = points / points.norm(dim=1, keepdim=True).clamp(min=1e-300)
        plane = unit * radius[:, None]
        if bool(((c[:, 4:] != 0).any(dim=1) & ~fisheye).any()):
            plane, exact = _without_tangential(c, plane, points, widest)
            found = torch.where(fisheye, found, exact)
        flat = torch.cat([plane, torch.ones_like(radius)[:, None]], dim=1)
        round_ = torch.cat([unit * radius.sin()[:, None], radius.cos()[:, None]], dim=1)
        return torch.where(fisheye[:, None], round_, flat), found

    def stretch(self, radius: float) -> Tensor:
        """float64 ``(V,)``: how much larger than a pinhole camera (fisheye: than one pixel an angle of 1 / focal) a lens shows
        things at most, up to a radius."""
        radii = torch.linspace(0, 1, 65, dtype=torch.float64, device=self.fisheye.device)
        radii = radii * self.widest.clamp(max=radius)[:, None]
        slope = _slope(self.coefficients.double()[:, None], radii)
        return slope.amax(dim=1).clamp(min=1.0) + 2 * self.coefficients[:, 4:].abs().sum(dim=1).double() * 3 * radius


def _bent(c: Tensor, radius: Tensor) -> Tensor:
    """The polynomial at radii ``(...)``, coefficients ``(..., 6)``."""
    square = radius * radius
    return radius * (1 + square * (c[..., 0] + square * (c[..., 1] + square * (c[..., 2] + square * c[..., 3]))))


def _slope(c: Tensor, radius: Tensor) -> Tensor:
    square = radius * radius
    inner = 3 * c[..., 0] + square * (5 * c[..., 1] + square * (7 * c[..., 2] + square * 9 * c[..., 3]))
    return 1 + square * inner


def _tangential(c: Tensor, plane: Tensor) -> Tensor:
    """What p1 and p2 add at points ``(N, 2)`` of the undistorted plane."""
    x, y = plane.unbind(dim=1)
    p1, p2 = c[:, 4], c[:, 5]
    square = x * x + y * y
    return torch.stack([2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y], dim=1)


def _unbent(c: Tensor, target: Tensor, widest: Tensor) -> tuple[Tensor, Tensor]:
    """Radii ``(N,)`` that the polynomial bends to `target`, and whether there are such up to `widest`.

    Newton's steps, or halves of the interval where a step leads out of it: the polynomial rises up to `widest`.
    """
    low, high = torch.zeros_like(target), widest.clone()
    radius = torch.minimum(target, widest)
    for _ in range(_ITERATIONS):
        error = _bent(c, radius) - target
        if bool((error.abs() <= _CONVERGED * target.clamp(min=1.0)).all()):
            break
        low, high = torch.where(error <= 0, radius, low), torch.where(error >= 0, radius, high)
        step = radius - error / _slope(c, radius).clamp(min=1e-12)
        radius = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    return radius, (_bent(c, radius) - target).abs() <= 1e-9 * target.clamp(min=1.0)


def _without_tangential(c: Tensor, plane: Tensor, target: Tensor, widest: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's method in two dimensions, from the solution without p1 and p2."""
    p1, p2 = c[:, 4], c[:, 5]
    limit = widest[:, None]
    for _ in range(_ITERATIONS):
        radius = plane.norm(dim=1)
        factor = _bent(c, radius) / radius.clamp(min=1e-300)
        factor = torch.where(radius > 0, factor, torch.ones_like(factor))
        error = plane * factor[:, None] + _tangential(c, plane) - target
        if bool((error.abs() <= _CONVERGED).all()):
            break
        x, y = plane.unbind(dim=1)
        bend = (_slope(c, radius) - factor) / (radius * radius).clamp(min=1e-300)  # derivative of the factor, over r
        xx = factor + bend * x * x + 2 * p1 * y + 6 * p2 * x
        xy = bend * x * y + 2 * p1 * x + 2 * p2 * y
        yy = factor + bend * y * y + 6 * p1 * y + 2 * p2 * x
        determinant = xx * yy - xy * xy
        safe = torch.where(determinant.abs() > 1e-12, determinant, torch.full_like(determinant, 1e-12))
        step = torch.stack(
            [(yy * error[:, 0] - xy * error[:, 1]) / safe, (xx * error[:, 1] - xy * error[:, 0]) / safe], dim=1
        )
        plane = plane - step
        length = plane.norm(dim=1, keepdim=True)
        plane = torch.where(length > limit, plane * (limit / length), plane)
    radius = plane.norm(dim=1)
    factor = torch.where(radius > 0, _bent(c, radius) / radius.clamp(min=1e-300), torch.ones_like(radius))
    error = plane * factor[:, None] + _tangential(c, plane) - target
    return plane, error.abs().amax(dim=1) <= 1e-9


def _turning_point(k: list[float], limit: float) -> float:
    """The first radius at which the polynomial stops rising, or `limit`."""
    slope = np.array([9 * k[3], 7 * k[2], 5 * k[1], 3 * k[0], 1.0])  # in the square of the radius
    if not slope[:4].any():
        return limit
    roots = np.roots(np.trim_zeros(slope, "f"))
    squares = [root.real for root in roots if abs(root.imag) < 1e-12 * max(1.0, abs(root)) and root.real > 0]
    return min([limit, *(math.sqrt(square) for square in squares)])
