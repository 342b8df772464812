"""Another object from a mesh, in truth: turned, mirrored, stretched or recoloured, and then seen, measured and fitted as such."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from ..nerfs.recolouring import Recolouring
from .mesh import Mesh

UP_AXES = ("y", "z")
"""Which way a file means up. `load_mesh` takes glTF at its word, which is y."""


def upright(mesh: Mesh, up_axis: str) -> Mesh:
    """The mesh of a glTF file whose objects stand along an axis, standing along z.

    Args:
        mesh: the mesh as `load_mesh` reads it, for which y is up in the file.
        up_axis: the axis that is up in the file, one of `UP_AXES`.

    Raises:
        ValueError: another axis.
    """
    if up_axis not in UP_AXES:
        raise ValueError(f"up_axis is {up_axis!r}; expected {' or '.join(UP_AXES)}")
    if up_axis == "y":
        return mesh
    return _moved(mesh, np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))


def turned(mesh: Mesh, degrees: float) -> Mesh:
    """Turned about the vertical, counterclockwise seen from above."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _moved(mesh, np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))


def mirrored(mesh: Mesh) -> Mesh:
    """Left and right exchanged: x negated, and the winding with it."""
    return _moved(mesh, np.diag([-1.0, 1, 1]))


def stretched(mesh: Mesh, x: float, y: float, z: float) -> Mesh:
    """Longer along the axes by positive factors. Raises `ValueError` for others."""
    if not min(x, y, z) > 0:
        raise ValueError(f"stretched by {x}, {y}, {z}; expected positive factors")
    return _moved(mesh, np.diag([x, y, z]))


def recoloured(mesh: Mesh, recolouring: Recolouring) -> Mesh:
    """Surfaces in other colours; opacity stays.

    A texel times its triangle's colour is what is seen, so triangles with a texture have theirs multiplied into one colour first:
    it must be one for all of them. Raises `ValueError` where a texture is tinted in several colours.
    """
    colours = mesh.colours.copy()
    textures = []
    for index, image in enumerate(mesh.textures):
        tints = np.unique(mesh.colours[mesh.texture == index].reshape(-1, 4), axis=0)
        if len(tints) > 1:
            raise ValueError("a texture is tinted in several colours; expected one, to recolour what is seen")
        tint = tints[0].astype(np.float64) / 255 if len(tints) else np.ones(4)
        seen = image / 255 * tint
        seen[..., :3] = recolouring.colours(seen[..., :3])
        textures.append(np.rint(seen * 255).astype(np.uint8))
        colours[mesh.texture == index] = 255
    plain = mesh.texture < 0
    shown = recolouring.colours(mesh.colours[plain][..., :3] / 255)
    colours[plain, :, :3] = np.rint(shown * 255).astype(np.uint8)
    return dataclasses.replace(mesh, colours=colours, textures=tuple(textures))


def _moved(mesh: Mesh, matrix: NDArray[np.float64]) -> Mesh:
    """The mesh through an invertible linear map ``(3, 3)``."""
    vertices = mesh.vertices.astype(np.float64) @ matrix.T
    normals = mesh.normals.astype(np.float64) @ np.linalg.inv(matrix)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    changes: dict[str, NDArray] = {"vertices": vertices.astype(np.float32), "normals": normals.astype(np.float32)}
    if np.linalg.det(matrix) < 0:
        for name in ("faces", "uv", "colours"):
            changes[name] = getattr(mesh, name)[:, ::-1].copy()
        changes["normals"] = changes["normals"][:, ::-1].copy()
    return dataclasses.replace(mesh, **changes)
