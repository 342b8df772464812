"""What can be measured on an object: its colours by visible area, its box, and whether its halves mirror each other.

Colours are those of the surface, without light, as far as it is seen from the sides and from above, where people stand: an
underside counts little. Legend: C colours of a palette.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..nerfs.recolouring import Recolouring
from ..rendering.cameras import turntable
from .colour_names import MEAN_LIGHT, colour_shares
from .mesh import Mesh
from .surface_points import surface_points
from .views import render_views

VERSION = 3
"""Goes up when the same mesh would be measured otherwise: stored measurements of another one are made again."""

_RINGS, _SIZE = ((6, 12.0), (4, 45.0)), 40
"""Cameras of a ring around the object and their elevation in degrees; side of their images."""
_LEVELS = 32
"""Steps of a channel that colours of a palette are told apart by."""

_MIRRORS = (
    ((-1, 0, 0), (0, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((0, 1, 0), (1, 0, 0), (0, 0, 1)), ((0, -1, 0), (-1, 0, 0), (0, 0, 1)),
)  # fmt: skip
"""Reflections in the upright planes along y, x and the two diagonals."""

_POINTS, _DENSE = 600, 6000
_SYMMETRIC, _NOT_SYMMETRIC = 0.025, 0.06
"""Of the diagonal of the box: how far the farthest 3 % of mirrored points lie from the surface, at most and at least."""


@dataclass(frozen=True)
class Measurements:
    """An object's measurements.

    Attributes:
        palette: ``(red, green, blue, share)`` of what is seen of the surface, sRGB in 0..1, shares adding up to 1.
        extents: sides of the bounding box along x, y and z (up), the longest 1.
        symmetric: whether a vertical plane along x, y or a diagonal parts it into mirror images; None where that is hard to say.
    """

    palette: Sequence[tuple[float, float, float, float]]
    extents: tuple[float, float, float]
    symmetric: bool | None

    def recoloured(self, recolouring: Recolouring) -> Measurements:
        """Of the recoloured NeRF: what is seen under the light is recoloured, then named like a surface under it."""
        palette = np.asarray(self.palette)
        seen = recolouring.colours(palette[:, :3] * MEAN_LIGHT)
        surface = (seen / MEAN_LIGHT).clip(0, 1)
        return dataclasses.replace(self, palette=_rows(surface, palette[:, 3]))

    @property
    def colours(self) -> dict[str, float]:
        """Colour name -> share of the visible surface, the largest first."""
        palette = np.asarray(self.palette)
        return colour_shares(palette[:, :3], palette[:, 3])

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "palette": [[round(value, 4) for value in row] for row in self.palette],
            "extents": [round(side, 4) for side in self.extents],
            "symmetric": self.symmetric,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurements:
        """The inverse of `to_dict`."""
        x, y, z = values["extents"]
        return cls([(r, g, b, s) for r, g, b, s in values["palette"]], (x, y, z), values["symmetric"])


def measure(mesh: Mesh) -> Measurements:
    """Measure a mesh, z up. Raises `ValueError` for one without extent, or that nothing is seen of."""
    mesh = mesh.normalised()
    corners = mesh.vertices[mesh.faces].reshape(-1, 3).astype(np.float64)
    x, y, z = map(float, np.ptp(corners, axis=0) / np.ptp(corners, axis=0).max())
    return Measurements(_palette(mesh), (x, y, z), _symmetric(mesh))


def seen_colours(images: NDArray[np.uint8]) -> dict[str, float]:
    """Colour name -> share of what pictures show, the largest first, of pictures that were taken under some light.

    Args:
        images: ``(V, height, width, 4)`` uint8, sRGB and opacity.

    Raises:
        ValueError: nothing is seen in them.
    """
    pixels = images[images[..., 3] > 127]
    if not len(pixels):
        raise ValueError("nothing is seen in the pictures; expected an object")
    return colour_shares((pixels[:, :3] / 255 / MEAN_LIGHT).clip(0, 1), np.ones(len(pixels)))


def _palette(mesh: Mesh) -> list[tuple[float, float, float, float]]:
    rings = [turntable(views, elevation=elevation, size=_SIZE) for views, elevation in _RINGS]
    images = np.concatenate([render_views(mesh, ring, lit=False) for ring in rings])
    pixels = images[images[..., 3] > 127].astype(np.int64)
    if not len(pixels):
        raise ValueError("nothing is seen of the object; expected a surface")
    cells, place, count = np.unique(pixels[:, :3] * _LEVELS // 256, axis=0, return_inverse=True, return_counts=True)
    total = np.zeros((len(cells), 3))
    np.add.at(total, place.reshape(-1), pixels[:, :3])
    means = total / count[:, None] / 255
    return _rows(means, count / count.sum())


def _rows(rgb: NDArray[np.float64], shares: NDArray[np.float64]) -> list[tuple[float, float, float, float]]:
    return [(r, g, b, share) for (r, g, b), share in zip(rgb.tolist(), shares.tolist(), strict=True)]


def _symmetric(mesh: Mesh) -> bool | None:
    points, dense = surface_points(mesh, _POINTS, 1)[0], surface_points(mesh, _DENSE, 2)[0]
    low, high = dense.min(axis=0), dense.max(axis=0)
    diagonal = float(np.linalg.norm(high - low))
    apart = []
    centre = (low + high) / 2
    for mirror in _MIRRORS:
        mirrored = (points - centre) @ np.array(mirror, np.float64).T + centre
        nearest = torch.cdist(torch.from_numpy(mirrored), torch.from_numpy(dense)).amin(dim=1)
        apart.append(float(nearest.quantile(0.97)) / diagonal)
    if min(apart) < _SYMMETRIC:
        return True
    return False if min(apart) > _NOT_SYMMETRIC else None
