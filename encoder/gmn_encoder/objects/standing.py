"""Whether an object stands or lies, by its shape alone: files of meshes seldom say which of their axes points up.

Two readings of one file are compared, y up and z up. A small network, pairwise trained (RankNet; Burges et al., ICML 2005), gives
each a score from what `features` measures: what it stands on, where its mass is, which way its surface faces, what mirrors what,
its profile from bottom to top. It learnt from meshes that are known to stand (`standing_training`).

Shapes: P points of a surface, F features.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extras import require
from ..files import read_tensors
from .mesh import Mesh, face_normals
from .surface_points import surface_points

WEIGHTS = Path(__file__).with_name("standing.safetensors")

_POINTS, _MIRRORED = 4000, 500
_BANDS = (0.01, 0.03, 0.08)
_SLICES = 5
_FACING = 0.95

Array = NDArray[np.float64]


def standing_margin(mesh: Mesh, other: Mesh) -> float:
    """By how much a reading of a file looks more upright than another one of the same file; negative where it looks less so.

    Args:
        mesh, other: the file read in two ways, z up.

    Returns:
        a difference of scores; beyond `sure_margin` few are wrong.
    """
    weights = _weights()
    own, others = scores(np.stack([mesh_features(mesh), mesh_features(other)]), weights)
    return float(own - others)


def sure_margin() -> float:
    """The margin beyond which, of meshes that a network had not seen, at most one in a hundred was mistaken."""
    return float(_weights()["sure"])


def looks_upright(mesh: Mesh, other: Mesh) -> bool | None:
    """Whether a reading of a file looks upright and the other one does not; None where that is hard to say.

    Arguments as of `standing_margin`.
    """
    margin = standing_margin(mesh, other)
    return margin > 0 if abs(margin) > sure_margin() else None


def mesh_features(mesh: Mesh) -> Array:
    """`features` of a mesh, z up."""
    return features(*_points(mesh))


def _points(mesh: Mesh) -> tuple[Array, Array]:
    points, faces = surface_points(mesh, _POINTS, 0)
    return points, face_normals(mesh.vertices, mesh.faces[faces])


def features(points: Array, normals: Array) -> Array:
    """What is measured of a surface whose z may point up.

    Args:
        points, normals: ``(P, 3)``, evenly over the surface, and which way it faces there.

    Returns:
        ``(F,)``, whatever the object's size.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    sides = np.maximum(high - low, 1e-6)
    size, foot = float(np.linalg.norm(sides)), float(sides[0] * sides[1])
    height = (points[:, 2] - low[2]) / sides[2]
    return np.array(
        [
            *_standing_on(points, height, size),
            *_facing(normals, height),
            *(sides[2] / size, sides[2] / sides[:2].max(), sides[:2].min() / size, sides[:2].max() / size),
            *_profile(points, height, size, foot),
            *_mirroring(points, low, high, size),
        ]
    )


def _standing_on(points: Array, height: Array, size: float) -> list[float]:
    """Shares and areas of what is lowest and highest, and where the middle of mass is over it."""
    shadow, found = max(_area(points[::4, :2]), 1e-9), []
    for band in _BANDS:
        for part in (height < band, height > 1 - band):
            found += [float(part.mean()), _area(points[part, :2]) / shadow]
    middle = points[:, :2].mean(axis=0)
    base = points[height < _BANDS[1], :2]
    left, right = base.min(axis=0), base.max(axis=0)
    reach = np.minimum(middle - left, right - middle).min() / size  # negative: it would tip over
    aside = np.abs((left + right) / 2 - middle).max() / size
    return [*found, float(reach > 0), float(reach), float(aside), float(height.mean()), float(np.median(height))]


def _area(flat: Array) -> float:
    """The area of the convex hull of points ``(n, 2)``; 0 of points on a line."""
    if len(flat) < 4 or np.linalg.matrix_rank(flat - flat[0], tol=1e-9) < 2:
        return 0.0
    spatial: Any = require("scipy.spatial", "objects")
    try:
        return float(spatial.ConvexHull(flat, qhull_options="QJ").volume)
    except spatial.QhullError:  # nearly on a line
        return 0.0


def _facing(normals: Array, height: Array) -> list[float]:
    """Which way the surface faces, in all and at the bottom, the top and between."""
    z = normals[:, 2]
    up, down, inside = z > _FACING, z < -_FACING, (height > 0.1) & (height < 0.9)
    parts = [up, down, np.abs(z) < 0.1, down & (height < 0.03), up & (height > 0.97), up & inside, down & inside]
    return [*(float(part.mean()) for part in parts), float(np.abs(z).mean()), float(z.mean())]


def _profile(points: Array, height: Array, size: float, foot: float) -> list[float]:
    """Mass and width of slices from bottom to top."""
    found: list[float] = []
    for number in range(_SLICES):
        part = points[(height >= number / _SLICES) & (height <= (number + 1) / _SLICES), :2]
        if len(part) < 3:
            found += [0.0] * 4
            continue
        spread = part.std(axis=0) / size
        found += [len(part) / len(points), *spread.tolist(), float(np.ptp(part, axis=0).prod()) / foot]
    return found


def _mirroring(points: Array, low: Array, high: Array, size: float) -> list[float]:
    """How far the surface is from its mirror image across the middle along each axis, and the vertical against the others."""
    spatial: Any = require("scipy.spatial", "objects")
    tree = spatial.cKDTree(points)
    some = points[:: max(len(points) // _MIRRORED, 1)]
    apart = []
    for axis in range(3):
        mirrored = some.copy()
        mirrored[:, axis] = low[axis] + high[axis] - mirrored[:, axis]
        distance = tree.query(mirrored)[0] / size
        apart.append((float(np.quantile(distance, 0.9)), float(distance.mean())))
    (x, x_mean), (y, y_mean), (z, z_mean) = apart
    return [x, y, z, x_mean, y_mean, z_mean, z - y, z_mean - y_mean, min(x, y) - z]


def scores(rows: Array, weights: dict[str, Array]) -> Array:
    """How upright readings look ``(n,)`` by their features ``(n, F)``: the mean of networks with one hidden layer.

    Args:
        rows: the features.
        weights: ``mean`` and ``deviation`` ``(F,)``; of N networks with H hidden units ``first`` ``(N, H, F)``, ``bias`` and
            ``last`` ``(N, H)``.
    """
    plain = ((rows - weights["mean"]) / weights["deviation"]).clip(-4, 4)
    hidden = np.tanh(np.einsum("bf,nhf->bnh", plain, weights["first"]) + weights["bias"])
    return np.einsum("bnh,nh->bn", hidden, weights["last"]).mean(axis=1)


@functools.cache
def _weights() -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in read_tensors(WEIGHTS)[0].items()}
