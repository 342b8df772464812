"""Which triangle does each pixel see? Two ways to the same answer.

`RayCaster` traces rays with Embree (package embreex, extra `objects`): the fast path on a CPU. `Rasteriser` projects triangles
in plain torch, on any device: the path where embreex is missing, and the specification the other is tested against.

Legend: F triangles, S x S image points, rows downwards; cameras are those of `rendering.cameras`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..extras import is_installed, require
from ..rendering.cameras import Cameras
from .mesh import Mesh

CasterName = Literal["auto", "embree", "torch"]

_CHUNKS = {"cpu": 300_000}  # triangle-point pairs at a time: few enough for the cache of a CPU
_CHUNK = 16_000_000  # elsewhere: bounds the memory
_NEAR = 1e-3


@dataclass(frozen=True)
class PixelGrid:
    """A rectangle of image points of camera `view` of `cameras` (on the CPU): `columns` `(S,)` and `rows` `(S,)` in pixels,
    where pixel i spans [i, i + 1]."""

    cameras: Cameras
    view: int
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def rays(self, points: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Origin `(3,)` and directions `(Q, 3)` of the points (all, row by row, for `None`), float32, world frame.

        Directions have length 1 along the optical axis, so distances along them are depths.
        """
        if points is None:
            columns, rows = np.tile(self.columns, len(self.rows)), np.repeat(self.rows, len(self.columns))
        else:
            columns, rows = self.columns[points % len(self.columns)], self.rows[points // len(self.columns)]
        x, y = torch.from_numpy(columns), torch.from_numpy(rows)
        directions = self.cameras.directions(torch.full((len(x),), self.view), x, y)
        return self.cameras.camera_to_world[self.view, :3, 3].float().numpy(), directions.float().numpy()


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
    """Triangles projected to the image, the nearest kept per point; plain torch on `device`.

    For a triangle with corners a, b, c (camera space) and a direction d, the products (b x c) . d, (c x a) . d and (a x b) . d
    are proportional to the barycentric weights of the point where they meet, at depth det(a, b, c) / their sum. They are linear
    in the image position, so each triangle needs nine numbers, and an edge that two triangles share gets one value from both.

    Work grows with the image area that all triangles cover together, hidden ones included. A triangle that reaches behind the
    camera is left out: cameras stand outside the object.
    """

    def __init__(self, mesh: Mesh, *, device: torch.device | str = "cpu") -> None:
        corners = torch.from_numpy(mesh.vertices[mesh.faces].astype(np.float64))
        self._corners = corners.to(device)  # (F, 3, 3)

    def first(self, grid: PixelGrid, points: NDArray[np.int64] | None = None) -> Hits:
        if points is None:
            return self._rasterise(grid, None)
        beyond = np.full(len(grid), np.inf, np.float32)
        beyond[points] = 0
        return self._rasterise(grid, beyond)[points]

    def behind(self, grid: PixelGrid, points: NDArray[np.int64], hits: Hits) -> Hits:
        beyond = np.full(len(grid), np.inf, np.float32)
        beyond[points] = _past(hits.depth)
        return self._rasterise(grid, beyond)[points]

    def _rasterise(self, grid: PixelGrid, beyond: NDArray[np.float32] | None) -> Hits:
        """The nearest triangle per point, deeper than `beyond` `(R,)`; a point with infinity there is left out."""
        device = self._corners.device
        if grid.cameras.lens is not None:
            raise ValueError("triangles are projected by pinhole cameras only; expected no lens, or the caster embree")
        limit = None if beyond is None else torch.from_numpy(beyond).to(device)
        cameras = grid.cameras
        centre, focal = cameras.principal_point[grid.view].double(), cameras.focal[grid.view].double()
        columns = ((torch.from_numpy(grid.columns) - centre[0]) / focal[0]).to(device)
        rows = ((torch.from_numpy(grid.rows) - centre[1]) / focal[1]).to(device)
        camera = cameras.camera_to_world[grid.view].double().to(device)
        local = (self._corners - camera[:3, 3]) @ camera[:3, :3]
        local = local * local.new_tensor(
            [1.0, -1.0, -1.0]
        )  # x right, y down, z forwards: the image position is (x, y) / z
        edges, determinant = _edge_functions(local)
        image = local[..., :2] / local[..., 2:].clamp(min=_NEAR)
        usable = (local[..., 2] > _NEAR).all(dim=1) & (determinant > 1e-15)
        bounds = [bound[:, axis].contiguous() for axis in (0, 1) for bound in (image.amin(dim=1), image.amax(dim=1))]
        first_column, last_column = (torch.searchsorted(columns, bound) for bound in bounds[:2])
        first_row, last_row = (torch.searchsorted(rows, bound) for bound in bounds[2:])
        wide = (last_column - first_column) * usable
        count = wide * (last_row - first_row)

        columns, rows, edges, determinant = columns.float(), rows.float(), edges.float(), determinant.float()
        best = torch.full((len(grid),), torch.inf, device=device)
        owner = torch.full((len(best),), -1, dtype=torch.int64, device=device)
        weights = torch.zeros(len(best), 2, device=device)
        for faces in _chunks(count, _CHUNKS.get(device.type, _CHUNK)):
            face = torch.repeat_interleave(faces, count[faces])
            start = torch.cumsum(count[faces], 0) - count[faces]
            within = torch.arange(len(face), device=device) - torch.repeat_interleave(start, count[faces])
            down = torch.div(within, wide[face], rounding_mode="floor")
            point = (first_row[face] + down) * len(columns) + first_column[face] + within - down * wide[face]
            if limit is not None:
                wanted = torch.isfinite(limit)[point]
                face, point = face[wanted], point[wanted]
            x, y = columns[point % len(columns)], rows[torch.div(point, len(columns), rounding_mode="floor")]
            value = edges[face]  # (Q, 4, 3)
            value = value[:, :, 0] * x[:, None] + value[:, :, 1] * y[:, None] + value[:, :, 2]
            inside = (value[:, :3] >= 0).all(dim=-1) & (value[:, 3] > 0)
            face, point, value = face[inside], point[inside], value[inside]
            depth = determinant[face] / value[:, 3]
            if limit is not None:
                deeper = depth > limit[point]
                face, point, value, depth = face[deeper], point[deeper], value[deeper], depth[deeper]
            _keep_nearest(best, owner, weights, face, value[:, 1:3] / value[:, 3:], point, depth)
        u, v = weights.cpu().numpy().T
        return Hits(owner.cpu().numpy(), u, v, best.cpu().numpy())


def _edge_functions(local: Tensor) -> tuple[Tensor, Tensor]:
    """`(F, 3, 3)` corners in camera space -> `(F, 4, 3)` coefficients of (x, y, 1) for the three weights and their sum, and the
    determinants `(F,)`; signs such that all are positive inside a triangle in front of the camera, whatever its winding."""
    a, b, c = local.unbind(dim=1)
    crosses = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=1)
    determinant = (a * crosses[:, 0]).sum(dim=-1)
    total = torch.linalg.cross(b - a, c - a)[:, None]
    sign = torch.where(determinant < 0, -1.0, 1.0)
    return torch.cat([crosses, total], dim=1) * sign[:, None, None], determinant * sign


def _chunks(count: Tensor, most: int) -> list[Tensor]:
    """Faces with points in their bounding rectangle, in groups of at most about `most` pairs (or one face)."""
    faces = torch.nonzero(count > 0).flatten()
    if not len(faces):
        return []
    group = (torch.cumsum(count[faces], 0) - count[faces]) // most
    return list(torch.split(faces, torch.unique_consecutive(group, return_counts=True)[1].tolist()))


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
    weights[point[won]] = bary[won]
