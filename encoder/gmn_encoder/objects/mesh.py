"""The record that mesh files and procedural objects share, and its place in the NeRF box.

Plain numpy: nothing here needs trimesh. Frame: right-handed, z up, as the released data and the inspection view of
docs/released_format.md#camera-model have it; glTF's front (+z of a y-up file) becomes -y.

Legend: N vertices, F triangles, P parts, T textures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

BOX = 0.7
"""Half the side of the NeRF box, world units (docs/released_format.md#radiance-field)."""

RADIUS = 0.62
"""Radius of the sphere that `Mesh.normalised` fits an object into. It lies strictly inside the box, however the object is turned,
and inside the default inspection view of docs/released_format.md#camera-model: 1.5 * sin(0.8575560450553894 / 2) = 0.6237."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with all that a renderer needs, one value per triangle corner (so seams need no special case).

    Attributes:
        vertices: `(N, 3)` float32.
        faces: `(F, 3)` int32, rows of `vertices`.
        normals: `(F, 3, 3)` float32, unit, per corner.
        colours: `(F, 3, 4)` uint8, sRGB and straight opacity, per corner; multiplies the texture where there is one.
        uv: `(F, 3, 2)` float32 texture coordinates, v upwards; textures repeat.
        texture: `(F,)` int16, index into `textures`, -1 for none.
        textures: `(height, width, 4)` uint8 images, sRGB and straight opacity.
        part: `(F,)` int32, index into `part_names`.
        part_names: one name per part; several parts may share a name (four "legs").
        notes: sentences about the object that its reader should pass on ("no colour in the file: grey").
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    uv: NDArray[np.float32]
    texture: NDArray[np.int16]
    textures: tuple[NDArray[np.uint8], ...] = ()
    part: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    part_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_faces(self) -> int:
        return len(self.faces)

    @property
    def opaque(self) -> bool:
        """Whether no surface lets light through: neither a corner nor a texel has an opacity under 255."""
        return bool((self.colours[..., 3] == 255).all() and all((t[..., 3] == 255).all() for t in self.textures))

    def normalised(self, *, radius: float = RADIUS) -> Mesh:
        """Centred on its bounding box and scaled so that the farthest vertex lies `radius` from the origin.

        The bounding sphere, not the longest side, decides: every view from one distance holds the whole object, and it stays
        inside the NeRF box however it is turned. Raises `ValueError` for a radius that would leave the box, and for an object
        without extent.
        """
        if not 0 < radius < BOX:
            raise ValueError(f"radius is {radius}; expected more than 0 and less than half the NeRF box, {BOX}")
        points = self.vertices.astype(np.float64)
        if not points.size:
            raise ValueError("the object has no vertices; expected a surface")
        points = points - (points.min(axis=0) + points.max(axis=0)) / 2
        reach = float(np.sqrt((points**2).sum(axis=1).max()))
        if not np.isfinite(reach) or reach < 1e-30:
            raise ValueError("all vertices of the object lie in one point; expected an object with an extent")
        return replace(self, vertices=(points * (radius / reach)).astype(np.float32))

    def fingerprint(self) -> str:
        """SHA-256 of geometry, colours and textures: two equal fingerprints are the same object."""
        digest = hashlib.sha256()
        arrays: list[NDArray] = [self.vertices, self.faces, self.normals, self.colours, self.uv, self.texture]
        for array in [*arrays, *self.textures]:
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
        return digest.hexdigest()


def face_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
    """`(F, 3)` unit normals by the right-hand rule; zero for a triangle without area."""
    corners = vertices.astype(np.float64)[faces]
    normal = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)


def cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """`np.cross` for `(F, 3)`, several times as fast on small meshes."""
    x, y, z = a.T
    u, v, w = b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=-1)


def smooth_normals(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], *, crease: float = 40.0
) -> NDArray[np.float64]:
    """`(F, 3, 3)` corner normals: the mean over the neighbours at that vertex that bend less than `crease` degrees."""
    flat = face_normals(vertices, faces)
    corners = faces.ravel()
    order = np.argsort(corners, kind="stable")  # corners grouped by vertex
    count = np.bincount(corners, minlength=len(vertices))
    within = np.arange(len(corners)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((len(vertices), int(count.max(initial=0))), -1)
    table[corners[order], within] = order // 3
    around = table[faces]  # (F, 3, K)
    neighbours = flat[around]  # (F, 3, K, 3)
    close = (neighbours @ flat[:, None, :, None])[..., 0] > np.cos(np.radians(crease))
    total = (neighbours * (close & (around >= 0))[..., None]).sum(axis=2)
    length = np.linalg.norm(total, axis=2, keepdims=True)
    return np.where(length > 1e-9, total / np.maximum(length, 1e-9), flat[:, None])
