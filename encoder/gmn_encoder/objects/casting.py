"""Which triangle does each pixel see? Two ways to the same answer.

`RayCaster` traces rays with Embree (package embreex, extra `objects`): the fast path on a CPU. `Rasteriser` projects triangles
in plain torch, on any device: the path where embreex is missing, and the specification the other is tested against.

Legend: F triangles, S x S image points, rows downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..extras import is_installed, require
from .mesh import Mesh

CasterName = Literal["auto", "embree", "torch"]

_CHUNK = 4_000_000  # triangle-point pairs at a time: bounds the memory of the rasteriser
_NEAR = 1e-3


@dataclass(frozen=True)
class PixelGrid:
    """A rectangle of image points of one camera: `columns` `(S,)` and `rows` `(S,)` in pixels, where pixel i spans [i, i + 1].

    `camera_to_world` `(4, 4)` float64, OpenGL convention; `focal` and `size` (of the square image) in pixels.
    """

    camera_to_world: NDArray[np.float64]
    focal: float
    size: int
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def rays(self, points: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Origin `(3,)` and directions `(Q, 3)` of the points (all, row by row, for `None`), float32, world frame."""
        if points is None:
            columns, rows = np.tile(self.columns, len(self.rows)), np.repeat(self.rows, len(self.columns))
        else:
            columns, rows = self.columns[points % len(self.columns)], self.rows[points // len(self.columns)]
        return pixel_rays(self.camera_to_world, self.focal, self.size, columns, rows)


def pixel_rays(
    camera_to_world: NDArray[np.floating],
    focal: float,
    size: int,
    columns: NDArray[np.floating],
    rows: NDArray[np.floating],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rays through image points (FORMATS.md section 2.6).

    Args:
        camera_to_world: `(4, 4)`, OpenGL convention (x right, y up, looking along -z).
        focal, size: in pixels; the principal point is the centre.
        columns, rows: `(R,)` positions in pixels; the centre of pixel i is i + 0.5.

    Returns:
        the origin `(3,)` and directions `(R, 3)`, float32, world frame. They are not normalised: their length is 1 along the
        optical axis, so distances along them are depths.
    """
    right, up, backward = camera_to_world[:3, :3].T.astype(np.float32)
    x = ((columns - size / 2) / focal).astype(np.float32)
    y = ((rows - size / 2) / focal).astype(np.float32)
    return camera_to_world[:3, 3].astype(np.float32), x[:, None] * right - y[:, None] * up - backward


@dataclass(frozen=True)
class Hits:
    """What the points of a grid see: `face` `(R,)` int64 (-1 nothing), barycentric `u`, `v` of the second and third corner and
    the `depth` along the optical axis, world units; `(R,)` float32, meaningless where nothing is seen."""

    face: NDArray[np.int64]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    depth: NDArray[np.float32]

    def __getitem__(self, index: NDArray) -> Hits:
        return Hits(self.face[index], self.u[index], self.v[index], self.depth[index])


class Caster(Protocol):
    def first(self, grid: PixelGrid, points: NDArray[np.int64] | None = None) -> Hits:
        """The nearest surface at `points` of the grid `(Q,)`, or at all."""
        ...

    def behind(self, grid: PixelGrid, points: NDArray[np.int64], hits: Hits) -> Hits:
        """The next surface behind `hits` at `points` of the grid; `hits` and the result have Q entries."""
        ...


def make_caster(mesh: Mesh, name: CasterName = "auto", *, device: torch.device | str = "cpu") -> Caster:
    """`"auto"` takes Embree where it is installed and the device is a CPU, torch otherwise."""
    if name not in ("auto", "embree", "torch"):
        raise ValueError(f'caster is {name!r}; expected "auto", "embree" or "torch"')
    if name == "auto":
        name = "embree" if torch.device(device).type == "cpu" and is_installed("embreex") else "torch"
    return RayCaster(mesh) if name == "embree" else Rasteriser(mesh, device=device)


def _past(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """A little deeper, or float32 would find the same triangle again."""
    return depth * np.float32(1 + 1e-5) + np.float32(1e-5)


class RayCaster:
    """Embree, float32, several million rays a second per core."""

    def __init__(self, mesh: Mesh) -> None:
        scenes: Any = require("embreex.rtcore_scene", "objects")
        construction: Any = require("embreex.mesh_construction", "objects")
        self._scene = scenes.EmbreeScene()
        # embreex only takes a soup of corners.
        self._geometry = construction.TriangleMesh(self._scene, np.ascontiguousarray(mesh.vertices[mesh.faces]))

    def first(self, grid: PixelGrid, points: NDArray[np.int64] | None = None) -> Hits:
        origin, directions = grid.rays(points)
        return self._run(np.broadcast_to(origin, directions.shape), directions)

    def behind(self, grid: PixelGrid, points: NDArray[np.int64], hits: Hits) -> Hits:
        origin, directions = grid.rays(points)
        start = _past(hits.depth)
        found = self._run(origin + directions * start[:, None], directions)
        return Hits(found.face, found.u, found.v, found.depth + start)

    def _run(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        found = self._scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(directions), output=1)
        return Hits(found["primID"].astype(np.int64), found["u"], found["v"], found["tfar"])


class Rasteriser:
    """Triangles projected to the image, the nearest kept per point; float64, plain torch on `device`.

    Work grows with the image area that all triangles cover together, hidden ones included. A triangle that reaches behind the
    camera is left out: cameras stand outside the object.
    """

    def __init__(self, mesh: Mesh, *, device: torch.device | str = "cpu") -> None:
        corners = torch.from_numpy(mesh.vertices[mesh.faces].astype(np.float64))
        self._corners = corners.to(device)  # (F, 3, 3)

    def first(self, grid: PixelGrid, points: NDArray[np.int64] | None = None) -> Hits:
        hits = self._rasterise(grid, None)
        return hits if points is None else hits[points]

    def behind(self, grid: PixelGrid, points: NDArray[np.int64], hits: Hits) -> Hits:
        nearest = np.full(len(grid), np.inf)
        nearest[points] = _past(hits.depth)
        return self._rasterise(grid, torch.from_numpy(nearest).to(self._corners.device))[points]

    def _rasterise(self, grid: PixelGrid, beyond: Tensor | None) -> Hits:
        """The nearest triangle per point deeper than `beyond` `(R,)`."""
        device = self._corners.device
        columns = torch.from_numpy(np.asarray(grid.columns, np.float64)).to(device)
        rows = torch.from_numpy(np.asarray(grid.rows, np.float64)).to(device)
        world_to_camera = torch.linalg.inv(torch.from_numpy(np.asarray(grid.camera_to_world, np.float64))).to(device)
        local = self._corners @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        depth = -local[..., 2]
        image = local[..., :2] / depth.clamp(min=_NEAR)[..., None] * grid.focal
        image = torch.stack([image[..., 0], -image[..., 1]], dim=-1) + grid.size / 2  # (F, 3, 2) column, row
        usable = (depth > _NEAR).all(dim=1)
        low, high = image.amin(dim=1), image.amax(dim=1)
        bounds = [corner[:, axis].contiguous() for axis in (0, 1) for corner in (low, high)]
        first_column, last_column = (torch.searchsorted(columns, bound) for bound in bounds[:2])
        first_row, last_row = (torch.searchsorted(rows, bound) for bound in bounds[2:])
        wide = (last_column - first_column) * usable
        count = wide * (last_row - first_row)

        best = torch.full((len(grid),), torch.inf, dtype=torch.float64, device=device)
        owner = torch.full((len(best),), -1, dtype=torch.int64, device=device)
        weights = torch.zeros(len(best), 2, dtype=torch.float64, device=device)
        for faces in _chunks(count):
            face = torch.repeat_interleave(faces, count[faces])
            start = torch.cumsum(count[faces], 0) - count[faces]
            within = torch.arange(len(face), device=device) - torch.repeat_interleave(start, count[faces])
            row = first_row[face] + within // wide[face]
            column = first_column[face] + within % wide[face]
            bary = _barycentric(image[face], torch.stack([columns[column], rows[row]], dim=-1))
            inside = (bary >= 0).all(dim=-1)
            face, bary, point = face[inside], bary[inside], (row * len(columns) + column)[inside]
            # Perspective: image-space weights are linear in 1 / depth.
            bary = bary / depth[face]
            inverse = bary.sum(dim=-1)
            bary = bary / inverse[:, None]
            deep = 1 / inverse
            if beyond is not None:
                keep = deep > beyond[point]
                face, bary, point, deep = face[keep], bary[keep], point[keep], deep[keep]
            _keep_nearest(best, owner, weights, face, bary, point, deep)
        return Hits(
            owner.cpu().numpy(),
            weights[:, 0].float().cpu().numpy(),
            weights[:, 1].float().cpu().numpy(),
            best.float().cpu().numpy(),
        )


def _chunks(count: Tensor) -> list[Tensor]:
    """Faces with points in their bounding rectangle, in groups of at most `_CHUNK` pairs (or one face)."""
    faces = torch.nonzero(count > 0).flatten()
    if not len(faces):
        return []
    group = (torch.cumsum(count[faces], 0) - count[faces]) // _CHUNK
    return list(torch.split(faces, torch.unique_consecutive(group, return_counts=True)[1].tolist()))


def _barycentric(triangle: Tensor, point: Tensor) -> Tensor:
    """`(Q, 3, 2)` triangles and `(Q, 2)` points -> `(Q, 3)` weights, all in 0..1 inside; -1 for triangles seen edge-on."""
    a, b, c = triangle.unbind(dim=1)
    area = _cross(b - a, c - a)
    weights = torch.stack(
        [_cross(b - point, c - point), _cross(c - point, a - point), _cross(a - point, b - point)], -1
    )
    flat = area.abs() < 1e-12
    return torch.where(flat[:, None], -torch.ones_like(weights), weights / torch.where(flat, 1.0, area)[:, None])


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _keep_nearest(
    best: Tensor, owner: Tensor, weights: Tensor, face: Tensor, bary: Tensor, point: Tensor, depth: Tensor
) -> None:
    """Let the nearest candidate of each point replace what stands there; ties go to the lower face."""
    best.scatter_reduce_(0, point, depth, "amin")
    won = depth == best[point]
    # On CUDA the last writer is anyone: the index needs a reduction of its own.
    lowest = torch.full_like(owner, torch.iinfo(torch.int64).max)
    lowest.scatter_reduce_(0, point[won], face[won], "amin")
    won &= lowest[point] == face
    owner[point[won]] = face[won]
    weights[point[won]] = bary[won][:, 1:]
