"""Points on a NeRF's surface with their colours: what models of point clouds read.

PointLLM (Xu et al., 2024) reads 8192 points a cloud, coordinates and colours in 0..1, centred and scaled to the unit sphere. How
points come out of a NeRF is ours: lines spread evenly over all directions and places cross a surface in proportion to its area. A
point is where such a line, coming from outside, has lost half of its light; its colour is the field's there. So a part of the
surface gets points by its area and by the share of directions that it is seen from. No mesh is made on the way.

Density is looked at in the middle of a sample and taken for constant inside it: a hard surface is met within half a marching
step, a soft one where half of the light is lost, which depends on the line.

Shapes: N points, R lines, S samples.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import StrPath, write_bytes
from ..nerfs.record import Nerf
from ..progress import Progress, no_progress
from ..seeds import generator_for
from .cameras import Rays
from .compositing import sum_before
from .marching import march_rays
from .occupancy import OccupancyGrid, find_occupancy
from .render import Field, nerf_field, query_field
from .samples import pick
from .voxels import points_in_voxels, voxel_width

COUNT = 8192
"""Points of a cloud that PointLLM reads."""
_HALF_DEPTH = math.log(2)  # the optical depth behind which half of the light is left
_OPAQUE = 1e3  # an optical depth that counts for infinity
_LINES = 1 << 13  # of a round
_MOST_ROUNDS = 1024
_SUFFIXES = (".ply", ".npy")


@torch.no_grad()
def surface_points(
    field: Nerf | Field,
    grid: OccupancyGrid | None = None,
    *,
    count: int = COUNT,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[Tensor, Tensor]:
    """Points on the surface of an object, even over a convex one, with the colours of the field there.

    Args:
        field: a NeRF, or a field that needs no `nerf_index`.
        grid: voxels that may hold something, on the field's device; None: those of `find_occupancy`, which a callback lacks.
        count: points to find, N.
        seed: seed of the lines; a field and a seed give the same points.
        progress: receives the points found and all.

    Returns:
        world coordinates ``(N, 3)`` and colours ``(N, 3)`` in 0..1, float32.

    Raises:
        ValueError: nothing there is dense enough to stop a line, or too little to be found; a `count` that is not positive.
    """
    if count < 1:
        raise ValueError(f"{count} points asked for; expected at least 1")
    name = "the field"
    if isinstance(field, Nerf):
        name = field.name
        device = next(iter(field.tensors.values())).device
        grid = (grid if grid is not None else find_occupancy(field, progress=progress)).to(device)
        field = nerf_field(field)
    if grid is None:
        raise ValueError("a field came without an occupancy grid; expected to know where to look")
    generator, device = generator_for("surface points", seed), grid.binary.device
    centre, radius = _occupied_sphere(grid)
    found: list[tuple[Tensor, Tensor]] = []
    number = 0
    for turn in range(_MOST_ROUNDS if radius > 0 else 0):
        rays = random_lines(_LINES, centre, radius, generator=generator).to(device)
        xyz = _first_crossings(field, rays, grid)
        found.append((xyz, field(xyz, None)[0] if len(xyz) else xyz))
        number += len(xyz)
        progress("looking for the surface", min(number, count), count)
        if number >= count:
            places, colours = (torch.cat(parts)[:count] for parts in zip(*found, strict=True))
            return places.float(), colours.float().clamp(0, 1)
        if not number and turn:
            break
    what = (
        f"only {number} of {count} points were found on a surface"
        if number
        else "nothing in it is dense enough to be seen"
    )
    raise ValueError(f"{name}: {what}; expected an object")


def random_lines(count: int, centre: Tensor, radius: float, *, generator: torch.Generator) -> Rays:
    """Rays ``(R,)`` through a ball, every line as likely as every other, starting outside of it.

    A direction is even over the sphere, a place even over the disc across it: lines so distributed cross any surface in
    proportion to its area (Cauchy and Crofton).

    Args:
        count: number of rays, R.
        centre: the ball's centre ``(3,)``, on the CPU.
        radius: the ball's radius, world units.
        generator: random numbers, on the CPU.
    """
    directions = F.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
    across = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    across = F.normalize(across - (across * directions).sum(dim=-1, keepdim=True) * directions, dim=-1)
    away = radius * torch.rand(count, 1, generator=generator, dtype=torch.float64).sqrt()
    origins = centre.double() + away * across - 2 * radius * directions
    return Rays(origins.float(), directions.float())


def _occupied_sphere(grid: OccupancyGrid) -> tuple[Tensor, float]:
    """Centre ``(3,)`` and radius of a ball around all occupied voxels, on the CPU; radius 0 where there are none."""
    voxels = grid.binary.any(dim=0).nonzero().cpu()
    if not len(voxels):
        return torch.zeros(3), 0.0
    centre = points_in_voxels((voxels.amin(dim=0) + voxels.amax(dim=0)) / 2, 0.5, grid.resolution)
    middles = points_in_voxels(voxels, 0.5, grid.resolution)
    return centre, float((middles - centre).norm(dim=-1).max()) + voxel_width(grid.resolution) * 3**0.5 / 2


def _first_crossings(field: Field, rays: Rays, grid: OccupancyGrid) -> Tensor:
    """World coordinates ``(N, 3)`` where rays have lost half of their light, of those that do, in order."""
    samples = march_rays(rays, grid)
    density = query_field(field, samples.positions(rays))[1]
    lengths = (samples.t_ends - samples.t_starts).double()
    depth = (density * lengths).nan_to_num(nan=0.0).clamp(max=_OPAQUE)
    before = sum_before(depth, samples)
    crossing = ((before < _HALF_DEPTH) & (before + depth >= _HALF_DEPTH)).nonzero()[:, 0]
    ray, start, lengths, depth, before = pick(crossing, samples.ray_index, samples.t_starts, lengths, depth, before)
    t = (start + (_HALF_DEPTH - before) / depth * lengths).float()
    origins, directions = pick(ray, rays.origins, rays.directions)
    return torch.addcmul(origins, directions, t[:, None])


def in_unit_sphere(xyz: Tensor) -> Tensor:
    """Points ``(N, 3)`` with their mean at the origin and the farthest at distance one, as PointLLM reads them."""
    moved = xyz - xyz.mean(dim=0)
    return moved / moved.norm(dim=-1).max().clamp(min=1e-12)


def write_points(xyz: Tensor, rgb: Tensor, path: StrPath) -> None:
    """Write a coloured point cloud. Atomic.

    Args:
        xyz: coordinates ``(N, 3)``.
        rgb: colours ``(N, 3)`` in 0..1.
        path: ``.ply`` (binary, little-endian: float ``x y z``, uchar ``red green blue``), or ``.npy``: float32 ``(N, 6)``,
            coordinates before colours in 0..1, the form of PointLLM's files.

    Raises:
        ValueError: another kind of file.
    """
    kind = points_format(path)
    places, colours = (part.detach().cpu().numpy().astype("<f4") for part in (xyz, rgb))
    buffer = io.BytesIO()
    if kind == ".npy":
        np.save(buffer, np.concatenate([places, colours], axis=1))
    else:
        names = [("float", name) for name in ("x", "y", "z")] + [("uchar", name) for name in ("red", "green", "blue")]
        lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(places)}"]
        lines += [*(f"property {kind} {name}" for kind, name in names), "end_header\n"]
        rows = np.empty(len(places), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
        rows["xyz"], rows["rgb"] = places, np.rint(colours.clip(0, 1) * 255)
        buffer.write("\n".join(lines).encode() + rows.tobytes())
    write_bytes(buffer.getvalue(), path)


def points_format(path: StrPath) -> str:
    """The kind of a point cloud's file by its name. Raises `ValueError` for an unknown one."""
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{path}: unknown kind {suffix!r} of a point cloud; expected {' or '.join(_SUFFIXES)}")
    return suffix
