"""Coloured point clouds, as small round splats whose radius is a guess from the distances between points; those in PLY files.

Shapes: N points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....extras import require
from .ply import PlyHeader, columns, read_elements
from .record import UP_Z, Splats, harmonics_of_colours, make_splats
from .splat_ply import unit_colours

_XYZ = ("x", "y", "z")
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_NEIGHBOURS = 4
_DEVIATION = 0.6  # of the distance between neighbours: a plane of such points has no holes
_LONGEST = 3.0  # times the median distance: what stands alone stays small
_OPACITY = 0.95
_GREY = 160 / 255


def is_point_cloud(header: PlyHeader) -> bool:
    """Whether a PLY file has points and no faces or splats."""
    vertex = header.element("vertex")
    surface = any(element.ragged and element.count for element in header.elements)
    return vertex is not None and {*_XYZ} <= {*vertex.properties} and not surface and "opacity" not in vertex.properties


def read_point_cloud(path: Path, header: PlyHeader) -> Splats:
    """Points as splats. Raises `ValueError` for fewer than two places, and what `read_elements` raises."""
    table = read_elements(path, header, ["vertex"])["vertex"]
    names = next((each for each in _COLOURS if {*each} <= {*(table.dtype.names or ())}), None)
    colours = None if names is None else unit_colours(table, names)
    return splats_of_points("coloured point cloud (.ply)", columns(table, _XYZ), colours)


def splats_of_points(kind: str, points: NDArray[np.float32], colours: NDArray | None) -> Splats:
    """Points ``(N, 3)`` with colours ``(N, 3)`` in 0..1, or grey, as splats. Raises `ValueError` for fewer than two places."""
    notes: tuple[str, ...] = (
        "points without a size: the radius of each is a guess from the distance to its neighbours",
    )
    if colours is None:
        notes += ("no colour in the file: grey",)
        colours = np.full((len(points), 3), _GREY, np.float32)
    finite = np.isfinite(points).all(axis=1)
    deviations = np.full(len(points), np.nan, np.float32)
    deviations[finite] = _DEVIATION * _spacing(points[finite])
    return make_splats(
        kind,
        means=points,
        scales=np.repeat(deviations[:, None], 3, axis=1),
        rotations=np.tile([1, 0, 0, 0], (len(points), 1)),
        opacities=np.full(len(points), _OPACITY),
        harmonics=harmonics_of_colours(colours.clip(0, 1)),
        up=UP_Z,
        notes=notes,
    )


def _spacing(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean distance ``(N,)`` of each point to its nearest others, kept within reason by the median of all."""
    spatial: Any = require("scipy.spatial", "foreign")
    if len(np.unique(points[:1000], axis=0)) < 2 and len(np.unique(points, axis=0)) < 2:
        raise ValueError(f"has {len(points):,} points in one place; expected a cloud of points")
    count = min(_NEIGHBOURS, len(points) - 1)
    distances, _ = spatial.cKDTree(points).query(points, k=range(2, count + 2))
    mean = distances.mean(axis=1)
    median = np.median(mean[mean > 0]) if (mean > 0).any() else np.ptp(points, axis=0).max() / len(points)
    return mean.clip(median / _LONGEST, median * _LONGEST).astype(np.float32)
