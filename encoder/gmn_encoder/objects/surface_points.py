"""Points spread over a mesh's surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mesh import Mesh, cross


def surface_points(mesh: Mesh, count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points ``(count, 3)`` evenly over the surface, and the triangle ``(count,)`` that each lies on."""
    random = np.random.Generator(np.random.PCG64(seed))
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = np.searchsorted(np.cumsum(area) / area.sum(), (np.arange(count) + random.random()) / count).clip(
        max=len(area) - 1
    )
    u, v = random.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = corners[face].transpose(1, 0, 2)
    return a + u * (b - a) + v * (c - a), face
