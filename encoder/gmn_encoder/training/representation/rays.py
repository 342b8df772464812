"""Teacher rays of a NeRF: rays that hit it, what it shows there, where it is sampled, and where nothing is.

Source: docs/released_format.md#rendering-loss, steps 1 to 3. The teacher's part does not change while the encoder trains, so it
is done ahead for many rays at once (`teacher_targets`); a step then draws from them (`draw`). Samples of a ray are numbers of
whole marching steps behind its entry into the box, two bytes each, with a random part of a step that belongs to the ray
(stratified sampling).

Shapes: R rays, S samples, G voxels along an axis (96).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...nerfs.record import Nerf, NerfBatch
from ...rendering.cameras import Cameras, Rays
from ...rendering.marching import box_intersection, march_rays
from ...rendering.occupancy import OccupancyGrid
from ...rendering.render import batch_field, render_rays_front_to_back
from ...rendering.samples import Samples
from ...rendering.voxels import voxel_numbers, voxels_of_numbers, voxels_of_unit, world_from_unit

logger = logging.getLogger(__name__)

RELEASED_EMPTY_VOXELS = 32000
"""Voxels that the released code draws background points from, one each."""


@dataclass(frozen=True, eq=False)
class RayTargets:
    """Rays of one NeRF that hit it, on the CPU.

    Attributes:
        origins, directions: float32 ``(R, 3)``.
        starts: float32 ``(R,)``, distance at which the first marching step begins, moved by the ray's random part of a step.
        counts: int64 ``(R,)`` samples of each ray.
        steps: int16 ``(S,)``, number of each sample's step behind `starts`.
        colour: float32 ``(R, 3)``, the teacher's, premultiplied by opacity.
        opacity: float32 ``(R,)``.
        occupied: uint8, the bits of the occupancy grid ``(G, G, G)``, first voxel in the highest bit.
        resolution: G.
    """

    origins: Tensor
    directions: Tensor
    starts: Tensor
    counts: Tensor
    steps: Tensor
    colour: Tensor
    opacity: Tensor
    occupied: Tensor
    resolution: int

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))


@torch.no_grad()
def teacher_targets(
    nerfs: Sequence[Nerf],
    grids: Sequence[OccupancyGrid],
    cameras: Sequence[Cameras],
    generators: Sequence[torch.Generator],
    *,
    rays: int,
    candidates: int,
    step: float,
    device: torch.device | str = "cpu",
) -> list[RayTargets]:
    """Render NeRFs of one architecture at random pixels until each has `rays` that hit it.

    Args:
        nerfs, grids, cameras: one of each per NeRF, on the CPU.
        generators: random numbers of each NeRF, on the CPU; what is drawn for a NeRF follows from its own alone.
        rays: number of rays with an opacity above zero that are wanted.
        candidates: most pixels that are tried. A NeRF that is hit less often has fewer rays, an empty one none.
        step: length of a marching step, world units.
        device: the device that does the work, all NeRFs at once.
    """
    batch = NerfBatch.stack(nerf.to(device) for nerf in nerfs)
    field, grid = batch_field(batch), OccupancyGrid.stack(grids).to(device)
    kept: list[list[tuple[Tensor, ...]]] = [[] for _ in nerfs]
    found, tried = [0] * len(nerfs), 0
    size = min(candidates, 3 * rays)
    while tried < candidates and (open_ := [n for n in range(len(nerfs)) if found[n] < rays]):
        size = min(size, candidates - tried)
        drawn = [cameras[n].random_rays(size, generator=generators[n])[0] for n in open_]
        owner = torch.tensor(open_, device=device).repeat_interleave(size)
        origins = torch.cat([each.origins for each in drawn]).to(device)
        directions = torch.cat([each.directions for each in drawn]).to(device)
        seen = render_rays_front_to_back(field, Rays(origins, directions, owner), grid, step=step)
        for turn, n in enumerate(open_):
            part = slice(turn * size, (turn + 1) * size)
            hits = part.start + (seen.opacity[part] > 0).nonzero()[: rays - found[n], 0]
            kept[n].append(tuple(t[hits] for t in (origins, directions, seen.colour, seen.opacity)))
            found[n] += len(hits)
        tried += size
    hit = [tuple(torch.cat(parts) for parts in zip(*rows, strict=True)) for rows in kept]
    return _marched(hit, grid, grids, generators, step)


def _marched(
    hit: list[tuple[Tensor, ...]],
    grid: OccupancyGrid,
    grids: Sequence[OccupancyGrid],
    generators: Sequence[torch.Generator],
    step: float,
) -> list[RayTargets]:
    """The rays with the samples at which the decoder is queried."""
    device = grid.binary.device
    counts = [len(rows[0]) for rows in hit]
    owner = torch.arange(len(hit), device=device).repeat_interleave(torch.tensor(counts, device=device))
    rays = Rays(torch.cat([rows[0] for rows in hit]), torch.cat([rows[1] for rows in hit]), owner)
    jitter = torch.cat([torch.rand(n, generator=g) for n, g in zip(counts, generators, strict=True)]).to(device)
    samples = march_rays(rays, grid, step=step, jitter=jitter)
    starts = box_intersection(rays)[0] + jitter * step
    steps = ((samples.t_starts - starts[samples.ray_index]) / step).round().to(torch.int16).cpu()
    ray_counts = samples.counts.cpu()
    per_nerf = [int(part.sum()) for part in ray_counts.split(counts)]
    result = []
    for rows, one, its_steps, its_counts, its_starts in zip(
        hit, grids, steps.split(per_nerf), ray_counts.split(counts), starts.cpu().split(counts), strict=True
    ):
        origins, directions, colour, opacity = (tensor.cpu() for tensor in rows)
        bits = torch.from_numpy(np.packbits(one.binary.cpu().numpy().reshape(-1)))
        result.append(
            RayTargets(
                origins.clone(),
                directions.clone(),
                its_starts.clone(),
                its_counts.clone(),
                its_steps.clone(),
                colour.clone(),
                opacity.clone(),
                bits,
                one.resolution,
            )
        )
    return result


@dataclass(frozen=True, eq=False)
class Draw:
    """What one step takes of a NeRF: rays with samples, and points ``(P, 3)`` of empty space."""

    rays: Tensor
    counts: Tensor
    t_starts: Tensor
    points: Tensor


def draw(
    targets: RayTargets,
    generator: torch.Generator,
    *,
    rays: int,
    samples: int,
    points: int,
    step: float,
    released: bool,
) -> Draw:
    """Draw some of a NeRF's rays and points of empty space.

    Clean: rays are left out once there are more than `samples` samples on them, and there are `points` points. Released
    (docs/released_format.md#rendering-loss): short of rays, the last ones are repeated; of too many samples a random part is
    kept, so that transmittance loses the others; points fill up to ``samples + points`` in total, out of at most 32,000 voxels.
    """
    chosen = torch.randperm(len(targets), generator=generator)[:rays]
    offsets = targets.counts.cumsum(0) - targets.counts
    if released:
        chosen = chosen.sort().values
        if 0 < len(chosen) < rays:  # repeats the end of the list, over again where the released code would fail
            missing = rays - len(chosen)
            chosen = torch.cat([chosen, chosen.repeat(-(-missing // len(chosen)))[-missing:]])
    else:
        total = targets.counts[chosen].cumsum(0)
        chosen = chosen[: max(1, int((total <= samples).sum()))]
    counts = targets.counts[chosen]
    first = counts.cumsum(0) - counts
    owner = torch.arange(len(chosen)).repeat_interleave(counts)
    index = torch.arange(len(owner)) + (offsets[chosen] - first)[owner]
    t_starts = targets.starts[chosen][owner] + targets.steps[index].float() * step
    if released:
        if len(owner) >= samples:
            kept = torch.randperm(len(owner), generator=generator)[:samples].sort().values
            owner, t_starts = owner[kept], t_starts[kept]
            counts = torch.bincount(owner, minlength=len(chosen))
        points = min(samples + points - len(owner), RELEASED_EMPTY_VOXELS)
    return Draw(chosen, counts, t_starts, empty_points(targets, points, generator, distinct=released))


def empty_points(targets: RayTargets, count: int, generator: torch.Generator, *, distinct: bool = False) -> Tensor:
    """World coordinates ``(count, 3)`` in unoccupied voxels, uniform; fewer, or none, where hardly a voxel is empty.

    `distinct`: no voxel twice, as released; then at most one point per empty voxel.
    """
    resolution = targets.resolution
    if distinct:
        bits = np.unpackbits(targets.occupied.numpy(), count=resolution**3)
        empty = torch.from_numpy(np.flatnonzero(bits == 0))
        voxel = empty[torch.randperm(len(empty), generator=generator)[:count]]
        fraction = torch.rand(len(voxel), 3, generator=generator)
        return world_from_unit((voxels_of_numbers(voxel, resolution) + fraction) / resolution)
    # Most of the box is empty: points anywhere, without those in occupied voxels.
    unit = torch.rand(2 * count, 3, generator=generator)
    voxel = voxel_numbers(voxels_of_unit(unit, resolution).unbind(dim=1), resolution)
    bit = targets.occupied[voxel >> 3].to(torch.int64) >> (7 - (voxel & 7)) & 1
    return world_from_unit(unit[bit == 0][:count])


def packed_samples(draws: Sequence[Draw], step: float) -> Samples:
    """The samples of several NeRFs' rays, one after the other."""
    counts = torch.cat([each.counts for each in draws])
    t_starts = torch.cat([each.t_starts for each in draws])
    return Samples(torch.arange(len(counts)).repeat_interleave(counts), t_starts, t_starts + step, counts)
