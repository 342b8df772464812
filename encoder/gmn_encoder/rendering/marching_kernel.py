"""Triton kernel of ray marching: each lane walks one ray, first to count its samples, then to write them.

`rendering.marching.march_reference` is its specification. Multiply-adds are not fused and divisions are rounded, so that a
sample's borders come out as in plain torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from .samples import Samples
from .voxels import float32_box

if TYPE_CHECKING:
    from .cameras import Rays
    from .occupancy import OccupancyGrid

_RAYS = 128


@triton.jit
def _voxel_coordinate(origin, direction, t, low, extent, G: tl.constexpr):
    """Coordinate along one axis in voxels, and whether it is strictly inside the box."""
    u = tl.div_rn(origin + t * direction - low, extent)
    return u * G, (u > 0.0) & (u < 1.0)


@triton.jit
def _to_border(v, direction, extent, G: tl.constexpr):
    """World distance along the ray to the next voxel along one axis."""
    sign = (direction > 0.0).to(tl.float32) - (direction < 0.0).to(tl.float32)
    border = tl.floor(v + (0.5 * sign + 0.5))
    return tl.div_rn(tl.div_rn(border - v, direction), G * 1.0) * extent


@triton.jit
def _march_kernel(
    origins,
    directions,
    nerf_index,
    clearance,
    t_near,
    t_far,
    offsets,
    counts,
    ray_index,
    t_starts,
    t_ends,
    rays,
    step,
    low,
    extent,
    G: tl.constexpr,
    HAS_NERFS: tl.constexpr,
    WRITE: tl.constexpr,
    RAYS: tl.constexpr,
):
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    known = ray < rays
    ox = tl.load(origins + ray * 3, mask=known, other=0.0)
    oy = tl.load(origins + ray * 3 + 1, mask=known, other=0.0)
    oz = tl.load(origins + ray * 3 + 2, mask=known, other=0.0)
    dx = tl.load(directions + ray * 3, mask=known, other=1.0)
    dy = tl.load(directions + ray * 3 + 1, mask=known, other=1.0)
    dz = tl.load(directions + ray * 3 + 2, mask=known, other=1.0)
    far = tl.load(t_far + ray, mask=known, other=0.0)
    t0 = tl.load(t_near + ray, mask=known, other=0.0)
    grid = clearance + tl.zeros([RAYS], tl.int64)
    if HAS_NERFS:
        grid += tl.load(nerf_index + ray, mask=known, other=0) * (G * G * G)
    if WRITE:
        place = tl.load(offsets + ray, mask=known, other=0)
    half = step * 0.5
    # What a voxel of clearance beyond two is worth along the ray; two stay as a margin for rounding.
    voxel_length = tl.div_rn(extent / G, tl.maximum(tl.maximum(tl.abs(dx), tl.abs(dy)), tl.abs(dz)))
    t1 = t0 + step
    middle = (t0 + t1) * 0.5
    count = tl.zeros([RAYS], tl.int64)
    active = known & (middle < far)
    while tl.max(active.to(tl.int32), axis=0) > 0:
        vx, inside_x = _voxel_coordinate(ox, dx, middle, low, extent, G)
        vy, inside_y = _voxel_coordinate(oy, dy, middle, low, extent, G)
        vz, inside_z = _voxel_coordinate(oz, dz, middle, low, extent, G)
        ix = tl.minimum(tl.maximum(vx, 0.0), G - 1.0).to(tl.int32)
        iy = tl.minimum(tl.maximum(vy, 0.0), G - 1.0).to(tl.int32)
        iz = tl.minimum(tl.maximum(vz, 0.0), G - 1.0).to(tl.int32)
        inside = inside_x & inside_y & inside_z
        clear = tl.load(grid + ((ix * G + iy) * G + iz), mask=active & inside, other=1).to(tl.float32)
        occupied = active & (clear == 0.0)
        if WRITE:
            tl.store(ray_index + place + count, ray, mask=occupied)
            tl.store(t_starts + place + count, t0, mask=occupied)
            tl.store(t_ends + place + count, t1, mask=occupied)
        count += occupied.to(tl.int64)

        along = tl.minimum(_to_border(vx, dx, extent, G), _to_border(vy, dy, extent, G))
        along = tl.maximum(tl.minimum(along, _to_border(vz, dz, extent, G)), 0.0)
        along = tl.where(clear > 2.0, (clear - 2.0) * voxel_length, along)
        target = tl.minimum(middle + along, far)
        landing = middle + step
        behind = active & (clear != 0.0) & (landing < target)
        while tl.max(behind.to(tl.int32), axis=0) > 0:
            landing = tl.where(behind, landing + step, landing)
            behind = behind & (landing < target)

        t0 = tl.where(occupied, t1, landing - half)
        t1 = tl.where(occupied, t1 + step, landing + half)
        middle = tl.where(occupied, (t0 + t1) * 0.5, landing)
        active = active & (middle < far)
    if not WRITE:
        tl.store(counts + ray, count, mask=known)


def march_kernel(rays: Rays, grid: OccupancyGrid, t_near: Tensor, t_far: Tensor, step: float) -> Samples:
    """`march_reference` by the kernel. Arguments as there, float32 and on one device."""
    count = len(rays)
    counts = torch.zeros(count, dtype=torch.int64, device=t_near.device)
    low, extent = float32_box()
    nerf_index = rays.nerf_index if rays.nerf_index is not None and len(grid) > 1 else None

    def launch(offsets: Tensor, ray_index: Tensor, t_starts: Tensor, t_ends: Tensor, *, write: bool) -> None:
        _march_kernel[(triton.cdiv(count, _RAYS),)](
            rays.origins.contiguous(),
            rays.directions.contiguous(),
            counts if nerf_index is None else nerf_index.contiguous(),
            grid.clearance,
            t_near,
            t_far,
            offsets,
            counts,
            ray_index,
            t_starts,
            t_ends,
            count,
            step,
            low,
            extent,
            G=grid.resolution,
            HAS_NERFS=nerf_index is not None,
            WRITE=write,
            RAYS=_RAYS,
            enable_fp_fusion=False,
        )

    if count:
        launch(counts, counts, t_near, t_near, write=False)
    ends = counts.cumsum(0)
    total = int(ends[-1]) if count else 0
    ray_index = torch.empty(total, dtype=torch.int64, device=t_near.device)
    t_starts, t_ends = t_near.new_empty(total), t_near.new_empty(total)
    if total:
        launch(ends - counts, ray_index, t_starts, t_ends, write=True)
    return Samples(ray_index, t_starts, t_ends, counts)
