"""Rendering: rays, images and views of any field.

A field is a callback ``field(xyz, nerf_index)``: world coordinates ``(S, 3)`` and, where the rays belong to several NeRFs,
the NeRF of each point, int64 ``(S,)`` (else None), to colours ``(S, 3)`` and densities ``(S,)`` or ``(S, 1)``. A NeRF, a stack of
NeRFs and a decoder all render through it. Method: docs/released_format.md#camera-model to #compositing. Shapes: R rays, S
samples, V views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nerfs.record import Nerf, NerfBatch
from ..progress import Progress, no_progress
from .cameras import Cameras, Rays
from .compositing import (
    TRANSMITTANCE_THRESHOLD,
    Rendering,
    accumulate_along_rays,
    composite,
    render_weights,
    visible_samples,
)
from .marching import STEP, march_rays
from .occupancy import OccupancyGrid
from .samples import Samples

Query = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DirectedField:
    """A field whose colours depend on the direction that one looks in, for `render_views` and `render_rays_front_to_back`.

    Attributes:
        query: world coordinates and unit directions, ``(S, 3)`` each, to colours ``(S, 3)`` and densities ``(S,)`` or ``(S, 1)``.
    """

    query: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def __call__(self, xyz: Tensor, nerf_index: Tensor | None) -> tuple[Tensor, Tensor]:
        raise ValueError("this field's colours depend on directions; expected to be rendered front to back")


Field = Query | DirectedField
Observer = Callable[[Tensor, Tensor, Tensor], None]
Density = Callable[[Tensor, Tensor | None], Tensor]

_FIRST_SLAB = 16  # samples of a ray that are evaluated before testing whether the rest can be seen; then twice as many
_CPU_POINTS, _GPU_POINTS = 1 << 14, 1 << 19  # points in a query: the features of so many stay in cache, or in memory
_IMAGE_RAYS = 1 << 15


def nerf_field(nerf: Nerf) -> Query:
    """The field of one NeRF."""
    return lambda xyz, nerf_index: nerf.query(xyz)


def batch_field(nerfs: NerfBatch) -> Query:
    """The field of stacked NeRFs, each point querying its own. Differentiable in coordinates and weights.

    The points of each NeRF are padded to those of the one with most: rays spread evenly over the NeRFs waste nothing.
    """

    def field(xyz: Tensor, nerf_index: Tensor | None) -> tuple[Tensor, Tensor]:
        if nerf_index is None:
            raise ValueError("points without nerf_index; expected to know which of the stacked NeRFs each one asks")
        counts = torch.bincount(nerf_index, minlength=len(nerfs))
        order = nerf_index.argsort(stable=True)
        slots = torch.arange(len(xyz), device=xyz.device) - (counts.cumsum(0) - counts)[nerf_index[order]]
        longest = int(counts.max())
        place = torch.empty_like(order)
        place[order] = nerf_index[order] * longest + slots
        padded = xyz.new_zeros(len(nerfs) * longest, 3).index_copy(0, place, xyz)
        rgb, density = nerfs.query(padded.view(len(nerfs), longest, 3))
        return rgb.flatten(0, 1).index_select(0, place), density.flatten(0, 1).index_select(0, place)

    return field


def render_rays(
    field: Field,
    rays: Rays,
    grid: OccupancyGrid | None = None,
    *,
    background: Tensor | None = None,
    density: Density | None = None,
    threshold: float = TRANSMITTANCE_THRESHOLD,
    step: float = STEP,
    near: float = 0.0,
    far: float = math.inf,
    stratified: bool = False,
    generator: torch.Generator | None = None,
) -> Rendering:
    """March rays, query the field at all samples at once, composite. Differentiable in what the field and the background are.

    Args:
        field: the field to render (see the module); receives float32 coordinates.
        rays: the rays, in world coordinates.
        grid: voxels that may hold something; None: the whole box.
        background: ``(3,)`` or ``(R, 3)``; None: black.
        density: the field's density alone. If given, it is queried first, without gradients, and samples whose transmittance
            is below `threshold` are dropped, as the released code renders NeRFs (not decoders).
        threshold, step, near, far, stratified, generator: arguments of `march_rays` and `visible_samples`.
    """
    samples = march_rays(rays, grid, step=step, near=near, far=far, stratified=stratified, generator=generator)
    rays = rays.to(torch.float32)
    if density is not None and threshold > 0:
        with torch.no_grad():
            seen = density(samples.positions(rays), _nerfs_of(samples, rays))
        samples = samples.select(visible_samples(seen, samples, threshold=threshold))
    rgb, values = field(samples.positions(rays), _nerfs_of(samples, rays))
    return composite(rgb, values, samples, background=background)


@torch.no_grad()
def render_rays_front_to_back(
    field: Field,
    rays: Rays,
    grid: OccupancyGrid | None = None,
    *,
    background: Tensor | None = None,
    threshold: float = TRANSMITTANCE_THRESHOLD,
    step: float = STEP,
    near: float = 0.0,
    far: float = math.inf,
    first_slab: int = _FIRST_SLAB,
    observe: Observer | None = None,
) -> Rendering:
    """`render_rays` with its visibility filter, without gradients, querying the field only where it can be seen.

    Rays advance in slabs of samples; a ray without transmittance left is not queried further. Queries are cut to sizes that fit.
    The first slab has `first_slab` samples of a ray, each next one twice as many; `observe` receives world coordinates
    ``(S, 3)``, weights ``(S,)`` and colours ``(S, 3)`` of each slab's.
    """
    rays = rays.to(torch.float32)
    samples = march_rays(rays, grid, step=step, near=near, far=far)
    slots = torch.arange(len(samples), device=samples.ray_index.device) - samples.offsets[samples.ray_index]
    colour = rays.origins.new_zeros(len(rays), 3)
    opacity, depth, optical_depth = rays.origins.new_zeros(3, len(rays))
    first, size, longest = 0, first_slab, int(samples.counts.max()) if len(rays) else 0
    while first < longest:
        light = torch.exp(-optical_depth)
        lit = (light >= threshold).index_select(0, samples.ray_index)
        slab = samples.select((slots >= first) & (slots < first + size) & lit)
        xyz = slab.positions(rays)
        if isinstance(field, DirectedField):
            rgb, density = query_directed(field, xyz, rays.directions.index_select(0, slab.ray_index))
        else:
            rgb, density = query_field(field, xyz, _nerfs_of(slab, rays))
        weights, transmittance = render_weights(density, slab)
        before = light.index_select(0, slab.ray_index)
        weights = weights.mul_(before).masked_fill_(transmittance.mul_(before) < threshold, 0.0)
        if observe is not None:
            observe(xyz, weights, rgb)
        colour += accumulate_along_rays(weights, rgb, slab)
        opacity += accumulate_along_rays(weights, None, slab)
        depth += accumulate_along_rays(weights * slab.middles, None, slab)
        optical_depth += accumulate_along_rays(density * (slab.t_ends - slab.t_starts), None, slab)
        first, size = first + size, size * 2
    rendering = Rendering(colour, opacity, depth)
    return rendering if background is None else rendering.over(background)


def query_field(field: Field, xyz: Tensor, nerf_index: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A field's colours ``(S, 3)`` and densities ``(S,)`` at world coordinates ``(S, 3)``, in queries of a size that fits."""
    points = _points_in_query(xyz)
    indices = (None,) * -(-len(xyz) // points) if nerf_index is None else nerf_index.split(points)
    return _joined([field(part, index) for part, index in zip(xyz.split(points), indices, strict=False)], xyz)


def query_directed(field: DirectedField, xyz: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """`query_field` of a field whose colours depend on the unit directions ``(S, 3)`` from the camera to the points."""
    points = _points_in_query(xyz)
    pairs = zip(xyz.split(points), directions.split(points), strict=True)
    return _joined([field.query(part, looks) for part, looks in pairs if len(part)], xyz)


def _points_in_query(xyz: Tensor) -> int:
    return _GPU_POINTS if xyz.is_cuda else _CPU_POINTS


def _joined(parts: list[tuple[Tensor, Tensor]], xyz: Tensor) -> tuple[Tensor, Tensor]:
    if not parts:
        return xyz.new_zeros(0, 3), xyz.new_zeros(0)
    return torch.cat([rgb for rgb, _ in parts]), torch.cat([density.reshape(-1) for _, density in parts])


def _nerfs_of(samples: Samples, rays: Rays) -> Tensor | None:
    return None if rays.nerf_index is None else rays.nerf_index.index_select(0, samples.ray_index)


@torch.no_grad()
def render_views(
    field: Nerf | Field,
    cameras: Cameras,
    grid: OccupancyGrid | None = None,
    *,
    background: Tensor | None = None,
    step: float = STEP,
    first_slab: int = _FIRST_SLAB,
    observe: Observer | None = None,
    progress: Progress = no_progress,
) -> Rendering:
    """Images of one NeRF or field.

    Args:
        field: a NeRF, or a field that needs no `nerf_index`.
        cameras: V cameras, on the device to render on.
        grid: voxels that may hold something; None looks everywhere, which is slow: see `nerf_occupancy`.
        background: ``(3,)`` on the cameras' device; None: black, colours premultiplied by opacity.
        step: length of a sample.
        first_slab, observe: arguments of `render_rays_front_to_back`.
        progress: receives the rays done and all.

    Returns:
        colour ``(V, height, width, 3)``, opacity and depth ``(V, height, width)``.
    """
    if isinstance(field, Nerf):
        field = nerf_field(field)
    parts, area = [], cameras.width * cameras.height
    for view in range(len(cameras)):
        rays = cameras.image_rays(view)
        for start in range(0, area, _IMAGE_RAYS):
            chunk = rays[start : start + _IMAGE_RAYS]
            parts.append(
                render_rays_front_to_back(
                    field, chunk, grid, background=background, step=step, first_slab=first_slab, observe=observe
                )
            )
            progress("rendering", view * area + start + len(chunk), len(cameras) * area)
    size = (len(cameras), cameras.height, cameras.width)
    return Rendering(
        torch.cat([part.colour for part in parts]).view(*size, 3),
        torch.cat([part.opacity for part in parts]).view(size),
        torch.cat([part.depth for part in parts]).view(size),
    )
