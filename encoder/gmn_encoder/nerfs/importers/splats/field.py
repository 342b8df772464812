"""Gaussian splats as a radiance field: densities and colours on a grid, read trilinearly; images by the splats' own rule.

A splat of opacity ``alpha`` and standard deviations ``s`` is the density ``a exp(-d^2 / 2)`` with d the Mahalanobis distance and
``a = -ln(1 - alpha) / (sqrt(2 pi) s_min)``: who looks through its mean along its thinnest axis sees its opacity. Densities add
up, colours are their mean weighted by density. Deviations below half a voxel are widened to that, which a grid can hold, and `a`
becomes smaller by what the cross-section along the two larger axes gains. Splats of an opacity under 0.02 are left out.

Shapes: N splats, S points, P pairs of a splat and a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...fields import Box
from ..base import ForeignField
from .extent import find_extent
from .rasteriser import rasterise
from .record import UP_NOTES, Splats, quaternion_matrices

RESOLUTION = 128
"""Voxels along the longest side of the box."""

_FAINT, _OPAQUE = 0.02, 0.99
_REACH = 3.5  # standard deviations at which a splat ends: 0.2 % of its density is left there
_SEEN = 2.0  # standard deviations that count for the extent
_MOST_WORK = 1 << 30  # pairs of a splat and a voxel in all: some minutes
_LEAST_RESOLUTION = 32
_PAIRS = 1 << 20  # that are held at once, about


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SplatField(ForeignField):
    """The field of Gaussian splats: the mean colour over all directions, on a grid of `resolution` voxels along its longest side.

    `tensors` are those of a `Splats` by their names. Splats whose means are outside `box` are not part of it.
    """

    resolution: int = RESOLUTION

    @cached_property
    def splats(self) -> Splats:
        """The splats inside `box`."""
        parts: dict[str, Any] = dict(self.tensors)
        return _inside(Splats(self.kind, **parts, up=self.up), self.box)

    @cached_property
    def grid(self) -> Tensor:
        """``(4, X, Y, Z)``: density, and density times colour, at the centres of voxels that are cubes."""
        return splat_densities(self.splats, self.box[0], *_voxels(self.box, self.resolution))

    def density(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """As `ForeignField.density`; the features are the colours."""
        low, high = xyz.new_tensor(self.box)
        grid = self.grid
        side = (high - low).max() / self.resolution * xyz.new_tensor(grid.shape[1:])
        places = ((xyz - low) / side * 2 - 1).flip(-1)  # grid_sample names the last axis first
        found = F.grid_sample(grid[None], places[None, None, None], padding_mode="border", align_corners=False)[
            0, :, 0, 0
        ].T
        inside = ((xyz > low) & (xyz < high)).all(dim=1, keepdim=True)
        density = found[:, :1]
        return density * inside, found[:, 1:] / density.clamp(min=torch.finfo(density.dtype).tiny)

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        """As `ForeignField.colour`."""
        return features

    def within(self, keep: Callable[[Tensor], Tensor]) -> SplatField:
        """As `ForeignField.within`: the splats whose means are kept."""
        kept = keep(self.tensors["means"])
        return replace(self, tensors={name: part[kept] for name, part in self.tensors.items()})

    def image(self, camera_to_world: Tensor, focal: Tensor, principal_point: Tensor, width: int, height: int) -> Tensor:
        """As `ForeignField.image`: with the colours that belong to the view, sorted and composited as splats are."""
        near = 1e-3 * self.diagonal
        return rasterise(self.splats, camera_to_world, focal, principal_point, width, height, near=near)


def splat_field(splats: Splats, source: Path, *, resolution: int = RESOLUTION) -> SplatField:
    """The field of splats, with the box of what is opaque in them.

    Args:
        splats: what a decoder gave.
        source: the file that they come from.
        resolution: voxels along the longest side of the box.

    Raises:
        ValueError: nothing in it can be seen.
    """
    box, bounded, notes = find_extent(splats.means, splats.opacities, _SEEN * splats.scales.amax(dim=1))
    inside, wanted = _inside(splats, box), resolution
    while (work := _work(inside, box, resolution)) > _MOST_WORK and resolution > _LEAST_RESOLUTION:
        resolution //= 2
    if work > _MOST_WORK:
        raise ValueError(
            f"its {len(splats):,} splats are so large that they overlap {work / resolution**3:,.0f} times everywhere; "
            "expected small ones: the file is broken, or prune it in a splat editor first"
        )
    if resolution < wanted:
        notes += (f"its field has {resolution} voxels along the longest side: the splats are large and many",)
    if splats.degree:
        notes += ("its field has each splat's mean colour over all directions; its images have those of the view",)
    return SplatField(
        kind=splats.kind,
        source=source,
        box=box,
        tensors=splats.tensors,
        up=splats.up,
        bounded=bounded,
        step=max(b - a for a, b in zip(*box, strict=True)) / resolution / 2,
        sizes={"splats": len(splats), "harmonics_degree": splats.degree, "grid_resolution": resolution},
        notes=(*splats.notes, *notes, UP_NOTES[splats.up]),
        resolution=resolution,
    )


@torch.no_grad()
def splat_densities(splats: Splats, low: Sequence[float], width: float, shape: Sequence[int]) -> Tensor:
    """Density, and density times colour, ``(4, X, Y, Z)`` float32 at the centres of voxels.

    Args:
        splats: the splats.
        low: the lowest corner of the voxels, in the splats' world.
        width: side of a voxel.
        shape: voxels along x, y and z.
    """
    splats = splats.select(splats.opacities >= _FAINT)
    scales = splats.scales.clamp(min=width / 2)
    peak = -torch.log1p(-splats.opacities.clamp(max=_OPAQUE)) / (math.sqrt(2 * math.pi) * scales.amin(dim=1))
    peak *= (splats.scales.sort(dim=1).values[:, 1:] / scales.sort(dim=1).values[:, 1:]).prod(dim=1)
    means, first, count = _boxes(splats, low, width, shape)
    kept = (count.prod(dim=1) > 0).nonzero()[:, 0]
    # A point's d^2 is |root (x - mean)|^2, in voxels.
    root = (quaternion_matrices(splats.rotations) / (scales[:, None] / width)).transpose(1, 2)
    values = torch.cat([peak[:, None], peak[:, None] * splats.colours], dim=1)
    parts = [part.index_select(0, kept) for part in (means, root, first, count, values)]
    grid = means.new_zeros(4, math.prod(shape))
    groups = (parts[3].prod(dim=1).cumsum(0) // _PAIRS).unique_consecutive(return_counts=True)[1].tolist()
    for group in zip(*(part.split(groups) for part in parts), strict=True):
        _add_splats(grid, group, shape)
    return grid.view(4, *shape)


def _inside(splats: Splats, box: Box) -> Splats:
    low, high = splats.means.new_tensor(box)
    return splats.select(((splats.means >= low) & (splats.means <= high)).all(dim=1))


def _voxels(box: Box, resolution: int) -> tuple[float, list[int]]:
    """Side of the voxels that a box is cut into, and how many they are along each axis."""
    sides = [high - low for low, high in zip(*box, strict=True)]
    width = max(sides) / resolution
    return width, [max(1, math.ceil(side / width - 1e-6)) for side in sides]


def _boxes(splats: Splats, low: Sequence[float], width: float, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Means in voxels, and the first voxel and the size, int64 ``(N, 3)``, of the box that each splat reaches."""
    spread = quaternion_matrices(splats.rotations) * (splats.scales.clamp(min=width / 2)[:, None] / width)
    means = (splats.means - splats.means.new_tensor(list(low))) / width
    extent = _REACH * spread.norm(dim=2)
    limit = means.new_tensor(list(shape))
    first = (means - extent - 0.5).ceil().clamp(min=0).minimum(limit).long()
    return means, first, ((means + extent + 0.5).floor().clamp(min=0).minimum(limit).long() - first).clamp(min=0)


def _work(splats: Splats, box: Box, resolution: int) -> int:
    """Pairs of a splat and a voxel that the grid takes."""
    return int(_boxes(splats, box[0], *_voxels(box, resolution))[2].prod(dim=1).sum())


def _add_splats(grid: Tensor, splats: Sequence[Tensor], shape: Sequence[int]) -> None:
    """Add splats to ``(4, voxels)``: means, roots of the inverse covariance, first voxels and sizes of boxes, values."""
    means, root, first, count, values = splats
    pairs = count.prod(dim=1)
    splat = torch.repeat_interleave(pairs)
    local = torch.arange(len(splat), device=splat.device) - (pairs.cumsum(0) - pairs).index_select(0, splat)
    sizes, starts = count.index_select(0, splat).unbind(dim=1), first.index_select(0, splat).unbind(dim=1)
    z = local % sizes[2] + starts[2]
    local = local // sizes[2]
    y, x = local % sizes[1] + starts[1], local // sizes[1] + starts[0]
    away = torch.stack([x, y, z], dim=1) + 0.5 - means.index_select(0, splat)
    turned = (root.index_select(0, splat) @ away[:, :, None])[:, :, 0]
    squared = turned.square().sum(dim=1)
    near = (squared <= _REACH**2).nonzero()[:, 0]
    voxel = ((x * shape[1] + y) * shape[2] + z).index_select(0, near)
    share = torch.exp(-0.5 * squared.index_select(0, near))
    added = values.index_select(0, splat.index_select(0, near)) * share[:, None]
    for channel in range(4):
        grid[channel].index_add_(0, voxel, added[:, channel].contiguous())
