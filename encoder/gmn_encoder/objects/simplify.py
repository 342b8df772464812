"""Meshes of millions of triangles, made smaller for views in which most of their triangles are less than a pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .mesh import Mesh

SIMPLIFIED_FACES = 2_000_000
"""Triangles above which a mesh is simplified: more than the pixels of all its views together show."""

_FINEST = 1024  # cells along the longest side: a fifth of a pixel of views of 224 pixels


def simplified(mesh: Mesh, *, most: int = SIMPLIFIED_FACES) -> Mesh:
    """A mesh with at most about `most` triangles: vertices in one cell of a grid become their mean.

    Triangles that fall together are dropped; the others keep colours, texture coordinates and normals of their corners. The grid
    begins with a thousand cells along the longest side and is coarsened until few enough are left.
    """
    cells, result = _FINEST, mesh
    while result.n_faces > most and cells >= 4:
        result = _clustered(mesh, cells)
        cells = cells * 3 // 4
    note = f"simplified from {mesh.n_faces:,} to {result.n_faces:,} triangles for the views"
    return replace(result, notes=(*mesh.notes, note))


def _clustered(mesh: Mesh, cells: int) -> Mesh:
    points = mesh.vertices.astype(np.float64)
    low = points.min(axis=0)
    side = float((points.max(axis=0) - low).max()) / cells
    cell = np.floor((points - low) / side).astype(np.int64).clip(0, cells)
    _, cluster = np.unique((cell[:, 0] * (cells + 1) + cell[:, 1]) * (cells + 1) + cell[:, 2], return_inverse=True)
    counts = np.bincount(cluster)
    means = np.stack([np.bincount(cluster, points[:, axis]) / counts for axis in range(3)], axis=1)
    faces = cluster[mesh.faces]
    kept = np.nonzero((faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2]))[0]
    first = np.sort(faces[kept], axis=1)
    _, once = np.unique(first, axis=0, return_index=True)
    kept = np.sort(kept[once])
    used, compact = np.unique(faces[kept], return_inverse=True)
    return replace(
        mesh,
        vertices=means[used].astype(np.float32),
        faces=compact.reshape(-1, 3).astype(np.int32),
        normals=mesh.normals[kept],
        colours=mesh.colours[kept],
        uv=mesh.uv[kept],
        texture=mesh.texture[kept],
        part=mesh.part[kept] if len(mesh.part) else mesh.part,
    )
