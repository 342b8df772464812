"""Ray marching: where along each ray the field is to be evaluated.

Source: nerfacc 0.3.5 as the released code uses it (docs/released_format.md#ray-marching). A ray is cut into steps of one length
from where it enters the box. A step whose middle lies in an occupied voxel is a sample; from the middle of any other, whole steps
are skipped until the next voxel. All of it in float32, sums of steps included: the borders of samples are those of the released
code, bit for bit.

Plain torch is the specification (`march_reference`); on CUDA a Triton kernel walks the rays. The plain version walks none:
all points of a ray are known beforehand but for the rounding of float32. It looks at blocks of points, coarse to fine, drops
those that the grid's clearance shows to be empty, tests the points of the rest, and then works out the rounding of the
borders run by run. A point within that rounding (1e-7) of a voxel's face may so fall to the other side, once in thousands
of rays.

Shapes: R rays, S samples, A any number of rays or points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..extras import has_triton
from ..nerfs.fields import BOX_MAX, BOX_MIN
from .cameras import Rays
from .occupancy import OccupancyGrid
from .samples import Samples, pick
from .voxels import DIAGONAL, float32_box, voxel_numbers, voxels_of_unit

STEP = 0.0023680380545556545
"""Length of a marching step, world units: the box diagonal 1.4 sqrt(3) over 1024, as float32 arithmetic gives it."""
MISS = 1e10
"""Entry and exit of a ray that misses the box."""

_BLOCKS = (32, 8)  # points of a block that is looked at as a whole, coarse to fine
_CHUNK = 1 << 13  # rays whose blocks are looked for at a time


def step_length(steps_per_diagonal: int) -> float:
    """Length of a marching step, world units, of which so many make the box diagonal."""
    return DIAGONAL / steps_per_diagonal


def box_intersection(rays: Rays, *, near: float = 0.0, far: float = math.inf) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the world box: ``(R,)`` and ``(R,)``, the entry not before `near`, the exit not after `far`.

    Rays that miss the box have 1e10 for both.
    """
    first = (BOX_MIN - rays.origins) / rays.directions
    second = (BOX_MAX - rays.origins) / rays.directions
    entry = torch.minimum(first, second).amax(dim=-1)
    leave = torch.maximum(first, second).amin(dim=-1)
    t_near, t_far = entry.clamp(min=near), leave.clamp(max=far)
    hit = t_near < t_far  # false for NaN: a ray within a face, which is outside
    return torch.where(hit, t_near, MISS), torch.where(hit, t_far, MISS)


@torch.no_grad()
def march_rays(
    rays: Rays,
    grid: OccupancyGrid | None = None,
    *,
    step: float = STEP,
    near: float = 0.0,
    far: float = math.inf,
    stratified: bool = False,
    generator: torch.Generator | None = None,
    jitter: Tensor | None = None,
) -> Samples:
    """Cut rays into samples where the grid is occupied (#ray-marching). Nothing of it is differentiable.

    Args:
        rays: rays in world coordinates, computed in float32; `rays.nerf_index` is the grid that each ray meets.
        grid: occupied voxels of one NeRF or of B; None: the whole box.
        step: length of a sample, world units.
        near, far: distances before which and from which on nothing is sampled. The released code uses neither.
        stratified: move each ray's samples by a random part of a step.
        generator: random numbers of `stratified`.
        jitter: part of a step, ``(R,)`` in 0..1, by which each ray's samples are moved, where the caller draws it.

    Raises:
        ValueError: several grids without `nerf_index`, or an index beyond the grids; a step that is not positive.
    """
    if not step > 0:
        raise ValueError(f"step is {step}; expected a positive length")
    grid = grid if grid is not None else OccupancyGrid.full(device=rays.origins.device)
    _check_nerfs(rays, grid)
    rays = rays.to(torch.float32)
    t_near, t_far = box_intersection(rays, near=near, far=far)
    if stratified:
        jitter = torch.rand(t_near.shape, generator=generator, device=t_near.device)
    if jitter is not None:
        t_near = t_near + jitter * step
    if rays.origins.is_cuda and has_triton():
        from .marching_kernel import march_kernel

        return march_kernel(rays, grid, t_near, t_far, step)
    return march_reference(rays, grid, t_near, t_far, step)


def march_reference(rays: Rays, grid: OccupancyGrid, t_near: Tensor, t_far: Tensor, step: float) -> Samples:
    """`march_rays` in plain torch from entries and exits ``(R,)``, on any device."""
    march = _March(rays, grid, t_near, t_far, step)
    hit = (march.first_middle < t_far).nonzero()[:, 0]
    runs = [march.occupied_runs(chunk) for chunk in hit.split(_CHUNK) if len(chunk)]
    ray, first, length = (torch.cat(parts) for parts in zip(*runs, strict=True)) if runs else (hit, hit, hit)
    return march.samples(ray, first, length)


class _March:
    """What the rays of one march share. Point k of a ray lies k steps behind its first middle."""

    def __init__(self, rays: Rays, grid: OccupancyGrid, t_near: Tensor, t_far: Tensor, step: float) -> None:
        self.step = float(torch.tensor(step, dtype=torch.float32))
        self.t_near, self.t_far = t_near, t_far
        self.first_middle = (t_near + (t_near + self.step)) * 0.5
        self.table = torch.cat([rays.origins, rays.directions], dim=1).T.contiguous()
        self.resolution, self.clearance = grid.resolution, grid.clearance.flatten()
        self.index_dtype = torch.int32 if self.clearance.numel() < 1 << 31 else torch.int64
        self.first_voxel = None
        if rays.nerf_index is not None and len(grid) > 1:
            self.first_voxel = (rays.nerf_index * grid.resolution**3).to(self.index_dtype)
        self.low, self.extent = float32_box()

    def clearance_at(self, ray: Tensor, t: Tensor, *, bounded: bool = True) -> Tensor:
        """Clearance of the grid ``(..., A)`` at distances ``(..., A)`` along rays ``(A,)``.

        Points outside the box have clearance 1 or, where `bounded` is off, that of the nearest voxel.
        """
        table = self.table.index_select(1, ray).view(6, *(1,) * (t.ndim - 1), -1)
        u = (t * table[3:]).add_(table[:3]).sub_(self.low).div_(self.extent)  # as fields.unit_coordinates rounds
        outside = None
        if bounded:
            lowest, highest = (pick(pick(u[0], u[1]), u[2]) for pick in (torch.minimum, torch.maximum))
            outside = (lowest > 0).logical_and_(highest < 1).logical_not_()
        voxel = voxels_of_unit(u, self.resolution, dtype=self.index_dtype)
        index = voxel_numbers(voxel, self.resolution)
        if self.first_voxel is not None:
            index += self.first_voxel.index_select(0, ray)
        clearance = self.clearance.index_select(0, index.flatten()).view(index.shape)
        return clearance if outside is None else clearance.masked_fill_(outside, 1)

    def candidate_blocks(self, ray: Tensor) -> tuple[Tensor, Tensor]:
        """Where rays ``(A,)`` may meet something: ray and number of each block of `_BLOCKS[-1]` points, in order."""
        near, far = pick(ray, self.t_near, self.t_far)
        block = torch.zeros_like(ray)
        parts = int(float((far - near).max()) / (self.step * _BLOCKS[0])) + 1
        for size, smaller in zip(_BLOCKS, (*_BLOCKS[1:], 1), strict=True):
            # Each block so far in its parts ``(parts, A)``.
            length = self.step * size
            numbers = block * parts + torch.arange(parts, device=ray.device)[:, None]
            start = near + numbers * length
            # Half a block reaches so many voxels from that of its centre (a bit more, for rounding).
            voxels = math.ceil(0.5 * length * self.resolution / self.extent + 0.05)
            clearance = self.clearance_at(ray, start + 0.5 * length, bounded=False)
            kept = (start < far).logical_and_(clearance <= voxels)
            owner, part = kept.T.nonzero(as_tuple=True)
            ray, block, near, far = pick(owner, ray, block, near, far)
            block, parts = block * parts + part, size // smaller
        return ray, block

    def occupied_runs(self, ray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maximal rows of points in occupied voxels: ray, number of the first point, number of points; in order."""
        size = _BLOCKS[-1]
        ray, block = self.candidate_blocks(ray)
        t = self.t_near.new_empty(size, len(ray))
        t[0] = advance(self.first_middle.index_select(0, ray), block * size, self.step)
        for point in range(1, size):
            torch.add(t[point - 1], self.step, out=t[point])
        occupied = (self.clearance_at(ray, t) == 0).logical_and_(t < self.t_far.index_select(0, ray))
        occupied = occupied.T.contiguous()
        follows = (ray[1:] == ray[:-1]) & (block[1:] == block[:-1] + 1)
        before, after = torch.zeros_like(occupied), torch.zeros_like(occupied)
        before[:, 1:], before[1:, 0] = occupied[:, :-1], occupied[:-1, -1] & follows
        after[:, :-1], after[:-1, -1] = occupied[:, 1:], occupied[1:, 0] & follows
        first = before.logical_not_().logical_and_(occupied).flatten().nonzero()[:, 0]
        last = after.logical_not_().logical_and_(occupied).flatten().nonzero()[:, 0]
        row = first // size
        return ray[row], block[row] * size + first % size, last - first + 1

    def samples(self, ray: Tensor, first: Tensor, length: Tensor) -> Samples:
        """The samples of runs, whose ends follow from one another by float32 additions."""
        begin, second = self.run_borders(ray, first, length)
        runs = torch.arange(len(ray), device=ray.device).repeat_interleave(length)
        offsets = length.cumsum(0) - length
        slots = torch.arange(len(runs), device=ray.device) - offsets.index_select(0, runs)
        t_ends = advance(second.index_select(0, runs), slots, self.step)
        t_starts = torch.empty_like(t_ends)
        t_starts[1:] = t_ends[:-1]
        t_starts[offsets] = begin
        counts = torch.zeros(len(self.t_near), dtype=torch.int64, device=ray.device).index_add_(0, ray, length)
        return Samples(ray.index_select(0, runs), t_starts, t_ends, counts)

    def run_borders(self, ray: Tensor, first: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Start and end of each run's first sample.

        In empty space a ray moves by its middle, in occupied space by the end of its last sample, and the two round
        differently: so runs are taken in turn, all rays' first, then all rays' second, and so on.
        """
        per_ray = torch.bincount(ray, minlength=len(self.t_near))
        turn = torch.arange(len(ray), device=ray.device) - (per_ray.cumsum(0) - per_ray).index_select(0, ray)
        middle, point = self.first_middle.clone(), torch.zeros_like(per_ray)
        begin, second = self.t_near.new_empty(len(ray)), self.t_near.new_empty(len(ray))
        for run in turn.argsort(stable=True).split(torch.bincount(turn).tolist()):
            owner, start, count = pick(run, ray, first, length)
            t = advance(middle.index_select(0, owner), start - point.index_select(0, owner), self.step)
            near = self.t_near.index_select(0, owner)
            begin[run] = torch.where(start == 0, near, t - 0.5 * self.step)
            second[run] = t = torch.where(start == 0, near + self.step, t + 0.5 * self.step)
            t = advance(t, count - 1, self.step)
            middle[owner] = (t + (t + self.step)) * 0.5
            point[owner] = start + count
        return begin, second


def advance(t: Tensor, count: Tensor, step: float) -> Tensor:
    """Add a float32 step `count` ``(A,)`` times to positive `t` ``(A,)``, as a loop of float32 additions would.

    Between two powers of two every addition of the step is rounded to the same stride, a multiple of the spacing of floats
    there, so that all additions that stay below the next power are one exact product. Only the first one there may differ,
    where the step lies halfway between two floats. (The number of additions is safe as well: the rounding error of the
    quotient is less than its distance from the next integer.)
    """
    count = count.to(torch.float32)
    while bool((count > 0).any()):
        for _ in range(2):  # over the power of two, and to where halves are rounded as from then on
            t = torch.where(count > 0, t + step, t)
            count = count.sub(1).clamp_(min=0)
        power = ((t.view(torch.int32) >> 23) + 1 << 23).view(torch.float32)
        stride = (t + step).sub_(t)
        taken = torch.minimum(count, (power - t).div_(stride).ceil_().sub_(1).clamp_(min=0))
        t, count = stride.mul_(taken).add_(t), count.sub_(taken)
    return t


def _check_nerfs(rays: Rays, grid: OccupancyGrid) -> None:
    if rays.nerf_index is None:
        if len(grid) != 1:
            raise ValueError(
                f"{len(grid)} occupancy grids for rays without nerf_index; expected to know which ray meets which"
            )
    elif len(rays) and (int(rays.nerf_index.min()) < 0 or int(rays.nerf_index.max()) >= len(grid)):
        raise ValueError(
            f"nerf_index runs from {int(rays.nerf_index.min())} to {int(rays.nerf_index.max())}; "
            f"expected 0 to {len(grid) - 1}, there are {len(grid)} occupancy grids"
        )
