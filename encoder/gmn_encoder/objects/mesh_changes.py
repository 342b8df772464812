"""Another object from a mesh, in truth: turned, mirrored, stretched or recoloured, and then seen, measured and fitted as such."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..nerfs.recolouring import COUNT, Recolouring
from ..seeds import derived_seed
from .mesh import Mesh
from .procedural.dice import Dice

_STRETCHED = (0.75, 1.35)

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
    return moved(mesh, np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))


def turned(mesh: Mesh, degrees: float) -> Mesh:
    """Turned about the vertical, counterclockwise seen from above."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return moved(mesh, np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))


def mirrored(mesh: Mesh) -> Mesh:
    """Left and right exchanged: x negated, and the winding with it."""
    return moved(mesh, np.diag([-1.0, 1, 1]))


def stretched(mesh: Mesh, x: float, y: float, z: float) -> Mesh:
    """Longer along the axes by positive factors. Raises `ValueError` for others."""
    if not min(x, y, z) > 0:
        raise ValueError(f"stretched by {x}, {y}, {z}; expected positive factors")
    return moved(mesh, np.diag([x, y, z]))


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


@dataclass(frozen=True)
class MeshChange:
    """One changed copy of an object: what is done to its mesh, in this order.

    Attributes:
        recolouring: the number of a `Recolouring`.
        mirrored: whether left and right are exchanged.
        stretched: factors along x, y and z.
        turned: degrees about the vertical.
    """

    recolouring: int = 0
    mirrored: bool = False
    stretched: tuple[float, float, float] = (1.0, 1.0, 1.0)
    turned: float = 0.0

    @classmethod
    def drawn(cls, class_id: str, nerf_id: str, number: int) -> MeshChange:
        """Copy `number` of an object: the same on every machine, another for each object and number."""
        dice = Dice(derived_seed("changed copy", class_id, nerf_id, number))
        recolouring = dice.integer(1, COUNT - 1) if dice.chance(0.7) else 0
        x, y, z = (dice.uniform(*_STRETCHED) for _ in range(3))
        return cls(recolouring, dice.chance(0.5), (x, y, z), dice.uniform(0, 360))

    def apply(self, mesh: Mesh, *, turn: bool = True) -> Mesh:
        """The changed mesh, for measurements without the turn: what an object is does not hang on which way it faces.

        Raises what `recoloured` raises.
        """
        if self.recolouring:
            mesh = recoloured(mesh, Recolouring.numbered(self.recolouring))
        mesh = stretched(mirrored(mesh) if self.mirrored else mesh, *self.stretched)
        return (turned(mesh, self.turned) if turn else mesh).normalised()


def copy_id(nerf_id: str, number: int) -> str:
    """The directory of a changed copy's NeRFs, ``chair-000000012_v2``; the object's own for number 0."""
    return f"{nerf_id}_v{number}" if number else nerf_id


def copied_from(nerf_id: str) -> tuple[str, int]:
    """The inverse of `copy_id`: the object's own directory, and the number of the copy."""
    found = re.fullmatch(r"(.+)_v([1-9]\d*)", nerf_id)
    return (found.group(1), int(found.group(2))) if found else (nerf_id, 0)


def moved(mesh: Mesh, matrix: NDArray[np.float64]) -> Mesh:
    """The mesh through an invertible linear map ``(3, 3)``."""
    vertices = mesh.vertices.astype(np.float64) @ matrix.T
    normals = mesh.normals.astype(np.float64) @ np.linalg.inv(matrix)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    changes: dict[str, Any] = {"vertices": vertices.astype(np.float32), "normals": normals.astype(np.float32)}
    if np.linalg.det(matrix) < 0:
        for name in ("faces", "uv", "colours"):
            changes[name] = getattr(mesh, name)[:, ::-1].copy()
        changes["normals"] = changes["normals"][:, ::-1].copy()
    return dataclasses.replace(mesh, **changes)
