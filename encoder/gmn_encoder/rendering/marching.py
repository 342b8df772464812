"""Ray marching: where along each ray the field is to be evaluated.

Source: nerfacc 0.3.5 as the released code uses it (FORMATS.md 2.7). A ray is cut into steps of one length from where it enters
the box. A step whose middle lies in an occupied voxel is a sample; from the middle of any other, whole steps are skipped until
the next voxel. All of it in float32, sums of steps included: a sample is in or out by its last bit, and the numbers here are
those of the released code, bit for bit.

Plain torch, vectorised over rays, is the specification (`march_reference`); on CUDA a Triton kernel walks the rays. What makes
the plain version quick: rays at empty points and rays in occupied voxels are two pools. The first leap over empty space by the
grid's clearance, the second take several steps at a time.

Shapes: R rays, S samples, A rays of a pool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..fields import BOX_MAX, BOX_MIN
from .cameras import Rays
from .occupancy import OccupancyGrid

STEP = 1.4 * math.sqrt(3.0) / 1024
"""Length of a marching step, world units: the box diagonal over 1024."""
MISS = 1e10
"""Entry and exit of a ray that misses the box."""

_RUN = 8  # steps that a ray in occupied space takes at a time


@dataclass(frozen=True, eq=False)
class Samples:
    """S samples on R rays, packed: ray after ray, front to back.

    Attributes:
        ray_index: int64 ``(S,)``, not decreasing.
        t_starts, t_ends: ``(S,)`` distances along the ray, world units.
        counts: int64 ``(R,)`` samples of each ray.
    """

    ray_index: Tensor
    t_starts: Tensor
    t_ends: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.ray_index)

    @property
    def num_rays(self) -> int:
        return len(self.counts)

    @property
    def middles(self) -> Tensor:
        """``(S,)``: the distance at which a sample is evaluated."""
        return (self.t_starts + self.t_ends) * 0.5

    @cached_property
    def offsets(self) -> Tensor:
        """int64 ``(R + 1,)``: where each ray's samples begin, and S."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def positions(self, rays: Rays) -> Tensor:
        """World coordinates ``(S, 3)`` of the samples."""
        origins, directions = rays.origins[self.ray_index], rays.directions[self.ray_index]
        return torch.addcmul(origins, directions, self.middles[:, None])

    def select(self, keep: Tensor) -> Samples:
        """The samples where the bool mask ``(S,)`` holds, on the same rays."""
        kept = keep.nonzero()[:, 0]
        ray_index = self.ray_index[kept]
        counts = torch.bincount(ray_index, minlength=self.num_rays)
        return Samples(ray_index, self.t_starts[kept], self.t_ends[kept], counts)


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
) -> Samples:
    """Cut rays into samples where the grid is occupied (2.7). Nothing of it is differentiable.

    Args:
        rays: computed in float32; `rays.nerf_index` says which of the grids a ray meets.
        grid: occupied voxels of one NeRF or of B; None: the whole box.
        step: length of a sample, world units.
        near, far: distances before which and from which on nothing is sampled. The released code uses neither.
        stratified: move each ray's samples by a random part of a step.
        generator: for `stratified`.

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
        t_near = t_near + torch.rand(t_near.shape, generator=generator, device=t_near.device) * step
    if rays.origins.is_cuda:
        from ..kernels.ray_marching import march_kernel

        return march_kernel(rays, grid, t_near, t_far, step)
    return march_reference(rays, grid, t_near, t_far, step)


def march_reference(rays: Rays, grid: OccupancyGrid, t_near: Tensor, t_far: Tensor, step: float) -> Samples:
    """`march_rays` in plain torch from entries and exits ``(R,)``, on any device."""
    march = _March(rays, grid, t_far, step)
    ray = (t_near < t_far).nonzero()[:, 0]
    t_start = t_near[ray]
    t_end = t_start + march.step
    middle = (t_start + t_end) * 0.5
    started = middle < t_far[ray]
    ray, t_start, t_end, middle = ray[started], t_start[started], t_end[started], middle[started]
    clearance = march.clearance_at(ray, middle)
    occupied, empty = (clearance == 0).nonzero()[:, 0], (clearance != 0).nonzero()[:, 0]
    # Occupied: ray, start, end and middle of the next sample. Empty: ray, middle and clearance of the point reached.
    runs = (ray[occupied], t_start[occupied], t_end[occupied], middle[occupied])
    leaps = (ray[empty], middle[empty], clearance[empty])
    while len(runs[0]) or len(leaps[0]):
        landed, leaps = march.leap(*leaps)
        runs, fallen = march.run(*(torch.cat(pair) for pair in zip(runs, landed, strict=True)))
        leaps = tuple(torch.cat(pair) for pair in zip(leaps, fallen, strict=True))
    return march.packed()


class _March:
    """What the rays of one march share, and the samples found so far."""

    def __init__(self, rays: Rays, grid: OccupancyGrid, t_far: Tensor, step: float) -> None:
        self.origins, self.directions = rays.origins.T.contiguous(), rays.directions.T.contiguous()
        self.nerf_index, self.t_far, self.resolution = rays.nerf_index, t_far, grid.resolution
        self.clearance = grid.clearance.flatten()
        self.step = torch.tensor(step, dtype=torch.float32, device=t_far.device)
        # World length that each voxel of clearance beyond two is worth along a ray; two stay as a margin for rounding.
        self.voxel_length = (BOX_MAX - BOX_MIN) / self.resolution / self.directions.abs().amax(dim=0)
        self.counts = torch.zeros(len(t_far), dtype=torch.int64, device=t_far.device)
        self.found: list[tuple[Tensor, ...]] = []

    def clearance_at(self, ray: Tensor, t: Tensor) -> Tensor:
        """Clearance ``(..., A)`` of the voxels that points at distances t ``(..., A)`` of rays ``(A,)`` lie in; 1 outside the box."""
        index: Tensor | int = 0 if self.nerf_index is None else self.nerf_index[ray]
        inside: Tensor | None = None
        for axis in range(3):
            u = self.unit(axis, ray, t)
            within = (u > 0) & (u < 1)
            inside = within if inside is None else inside.logical_and_(within)
            voxel = u.mul_(self.resolution).clamp_(0, self.resolution - 1).to(torch.int32)
            index = index * self.resolution + voxel
        assert inside is not None and isinstance(index, Tensor)
        return torch.where(inside, self.clearance[index], 1)

    def unit(self, axis: int, ray: Tensor, t: Tensor) -> Tensor:
        """One coordinate in the unit cube, rounded as `fields.unit_coordinates` rounds."""
        box = torch.tensor([BOX_MIN, BOX_MAX], dtype=torch.float32, device=t.device)
        return (t * self.directions[axis, ray]).add_(self.origins[axis, ray]).sub_(box[0]).div_(box[1] - box[0])

    def leap(self, ray: Tensor, t: Tensor, clearance: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """From empty points by whole steps to the next voxel, or farther: those that land in occupied voxels, the others."""
        distance: Tensor | None = None
        for axis in range(3):
            direction = self.directions[axis, ray]
            v = self.unit(axis, ray, t) * self.resolution
            border = (v + (0.5 + 0.5 * direction.sign())).floor_()
            along = (border - v) / direction / self.resolution * (BOX_MAX - BOX_MIN)
            distance = along if distance is None else torch.fmin(distance, along)
        assert distance is not None
        leaps = (clearance.to(torch.float32) - 2) * self.voxel_length[ray]
        t_far = self.t_far[ray]
        target = torch.minimum(t + torch.where(clearance > 2, leaps, distance.clamp_(min=0)), t_far)
        t = advance(t, target, self.step)
        ahead = (t < t_far).nonzero()[:, 0]
        ray, t = ray[ahead], t[ahead]
        clearance = self.clearance_at(ray, t)
        occupied, empty = (clearance == 0).nonzero()[:, 0], (clearance != 0).nonzero()[:, 0]
        hit = t[occupied]
        half = self.step * 0.5
        return (ray[occupied], hit - half, hit + half, hit), (ray[empty], t[empty], clearance[empty])

    def run(self, ray: Tensor, t_start: Tensor, t_end: Tensor, middle: Tensor) -> tuple[tuple[Tensor, ...], tuple]:
        """Up to `_RUN` samples from known ones on: those rays that are still in occupied voxels, those that have come to empty ones."""
        borders, middles = [t_start, t_end], [middle]
        for _ in range(_RUN):
            borders.append(borders[-1] + self.step)
            middles.append((borders[-2] + borders[-1]) * 0.5)
        t, ends = torch.stack(middles), torch.stack(borders)
        clearance = self.clearance_at(ray, t)
        clearance[0] = 0
        before = t < self.t_far[ray]
        taken = ((clearance == 0) & before)[:_RUN].cumprod(dim=0, dtype=torch.int8)
        length = taken.sum(dim=0, dtype=torch.int64)
        slot, column = taken.nonzero(as_tuple=True)
        self.found.append((ray[column], self.counts[ray][column] + slot, ends[slot, column], ends[slot + 1, column]))
        self.counts[ray] += length
        # Where each ray stands now: at its first point that is no sample.
        here = length[None]
        t, clearance = t.gather(0, here)[0], clearance.gather(0, here)[0]
        before = before.gather(0, here)[0]
        inside = ((clearance == 0) & before).nonzero()[:, 0]
        empty = ((clearance != 0) & before).nonzero()[:, 0]
        here = here[:, inside]
        starts, stops = ends[:, inside].gather(0, here)[0], ends[:, inside].gather(0, here + 1)[0]
        return (ray[inside], starts, stops, t[inside]), (ray[empty], t[empty], clearance[empty])

    def packed(self) -> Samples:
        """All samples found, ray after ray."""
        offsets = self.counts.cumsum(0) - self.counts
        total = int(self.counts.sum())
        t_starts, t_ends = self.t_far.new_empty(total), self.t_far.new_empty(total)
        if total:
            rays, slots, starts, ends = (torch.cat(parts) for parts in zip(*self.found, strict=True))
            place = offsets[rays] + slots
            t_starts[place], t_ends[place] = starts, ends
        numbers = torch.arange(len(self.counts), device=self.counts.device)
        return Samples(numbers.repeat_interleave(self.counts, output_size=total), t_starts, t_ends, self.counts)


def advance(t: Tensor, target: Tensor, step: Tensor) -> Tensor:
    """Add float32 steps to `t` ``(A,)``, at least one, until `target` is reached, as a loop of float32 additions would.

    Between two powers of two each addition of the step is rounded to the same stride, so all additions there are one product.
    """
    t = t + step
    while True:
        behind = t < target
        if not bool(behind.any()):
            return t
        start = t.double()
        stride = (t + step).double() - start
        power = torch.ldexp(torch.ones_like(t), torch.frexp(t).exponent).double()
        # All but the last addition before the target or the next power of two; that one is left to float32.
        limit = torch.minimum(target.double(), power)
        count = ((limit - start) / stride).ceil_().sub_(1).clamp_(min=0)
        t = torch.where(behind, (start + count * stride).float() + step, t)


def _check_nerfs(rays: Rays, grid: OccupancyGrid) -> None:
    if rays.nerf_index is None:
        if len(grid) != 1:
            raise ValueError(
                f"{len(grid)} occupancy grids for rays without nerf_index; expected to know which ray meets which"
            )
    elif len(rays) and not (0 <= int(rays.nerf_index.min()) and int(rays.nerf_index.max()) < len(grid)):
        raise ValueError(
            f"nerf_index runs from {int(rays.nerf_index.min())} to {int(rays.nerf_index.max())}; "
            f"expected 0 to {len(grid) - 1}, there are {len(grid)} occupancy grids"
        )
