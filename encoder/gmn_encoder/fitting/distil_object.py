"""The object in a foreign field: which of its space counts, and how it is brought into the box.

A field's density says nothing about space that no camera of its training saw: it holds garbage there, often a lot of it. So only
what carries weight in views from plausible cameras counts. The density is looked at once on a grid, and rays of many small views
are marched through that grid: a voxel is *seen* if it has weight in pixels of enough of them. Specks apart from the object,
floaters, are dropped by their share of all that is seen, and so is a backdrop that has the colour of the training's background.

Shapes: G voxels along an axis, V views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nerfs.importers import ForeignField
from ..objects.mesh import BOX, RADIUS
from ..progress import Progress, no_progress
from ..rendering.cameras import DEFAULT_DISTANCE, RELEASED_ANGLE_X, Cameras, focal_from_angle, sphere
from ..rendering.marching import step_length
from ..rendering.occupancy import DENSITY_THRESHOLD, OccupancyGrid
from ..rendering.render import DirectedField, render_views
from ..rendering.voxels import RESOLUTION, numbers_at, voxel_centers, voxel_width
from ..seeds import generator_for
from .placement import Placement, PlacementRequest

FIRST_SLAB = 6
"""Samples of a ray that are evaluated before asking whether the rest can be seen: these fields are dear."""

_WEIGHT = 0.02  # weight in a pixel from which a view shows a voxel
_SEEN = 0.05  # share of the views that must show a voxel for it to be seen,
_SOLID = 0.1  # and to count for the extent
_ALIKE = 0.06  # mean difference from the background's colour up to which a voxel has it
_SPECK = 0.03  # share of the largest part of an object under which a part is a floater
_VIEWS = 48  # that are looked at to find the object, a pixel for each voxel
_LOWEST = 0.1  # sine of the elevation over which cameras stand where they do not stand all around
_NEAREST = 0.8  # cameras do not stand closer than this, world units
_ENCLOSED = 5  # of the six directions along the axes in which something seen lies
_POINTS = 2  # in each voxel
_COARSE = 64  # voxels along an axis of the first look
_REACH = 0.9  # radius about the origin of the box that the first look shows whole
_QUERY = 1 << 14
_INVISIBLE = 0.05  # density, world units


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object that was found.

    Attributes:
        placement: how it was brought into the box.
        seen: voxels, with their neighbours, that have a share in some view: all that is rendered.
        solid: `seen` and what it encloses: all that may hold the object.
        notes: sentences worth saying.
    """

    placement: Placement
    seen: OccupancyGrid
    solid: OccupancyGrid
    notes: tuple[str, ...]


@torch.no_grad()
def find_object(
    field: ForeignField, request: PlacementRequest | None = None, *, progress: Progress = no_progress
) -> FoundObject:
    """Find a field's object and where to put it.

    Args:
        field: the field, on the device to work on.
        request: what the user says about centre, scale and up.
        progress: receives points and views done and all.

    Raises:
        ValueError: nothing in the field is seen from plausible cameras.
    """
    request = request or PlacementRequest()
    everything = _everything(field, request)
    whole = OccupancyGrid.full(device=field.device)
    share, white = _look(field, everything, whole, _COARSE, progress)
    backdrop = _backdrop(white, _border(white))
    share = torch.where(backdrop, 0.0, share)
    placement, radius, notes = _place(field, request, everything, share)
    if bool(backdrop.any()):
        notes = (*notes, "what has the background's colour and reaches the border of its box is left out")
    near = OccupancyGrid(share > _SEEN).dilated(2)
    share, white = _look(field, placement, near, RESOLUTION, progress, looked_at=everything)
    placed = everything.to_box(placement.to_source(voxel_centers(device=field.device).view(-1, 3)))
    seeds = backdrop.flatten()[numbers_at(placed, _COARSE)].view_as(white)
    backdrop = _backdrop(white, seeds)
    kept = _without_specks(torch.where(backdrop | (share < _SEEN), 0.0, share)) > 0
    kept &= voxel_centers(device=kept.device).norm(dim=-1) < radius
    if not bool(kept.any()):
        raise ValueError(_nothing(field, placement))
    seen = OccupancyGrid(OccupancyGrid(kept).dilated(1).binary[0] & ~backdrop)
    solid = OccupancyGrid(seen.binary[0] | _enclosed(seen.binary[0]))
    return FoundObject(placement, seen, solid, notes)


def placed_query(field: ForeignField, placement: Placement) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A field in the world of the box: points and directions ``(S, 3)`` to colours ``(S, 3)`` and densities ``(S,)``."""

    def query(xyz: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        density, features = field.density(placement.to_source(xyz))
        density = density[:, 0] / placement.scale
        rgb = xyz.new_zeros(len(xyz), 3)
        shown = (density > _INVISIBLE).nonzero()[:, 0]  # the others' colours would not show
        looks = placement.directions_to_source(directions[shown])
        rgb[shown] = field.colour(features[shown], looks)
        return rgb, density

    return query


def plausible_cameras(
    field: ForeignField, views: int, *, distance: float, size: int, seed: int, angle: float
) -> Cameras:
    """`views` cameras about the origin of the box, all around or above the ground, looking at it."""
    count = views if field.viewpoints == "sphere" else round(views * 2 / (1 - _LOWEST))
    cameras = sphere(count, distance=distance, size=size, seed=seed)[:views]  # from the top down
    focal = focal_from_angle(angle, size)
    return Cameras(cameras.camera_to_world, torch.full_like(cameras.focal, focal), cameras.principal_point, size, size)


def _everything(field: ForeignField, request: PlacementRequest) -> Placement:
    """The field's whole box in ours, or what the user says."""
    up = request.up or field.up
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in field.box)
    middle = (low + high) / 2 if request.center is None else low.new_tensor(request.center)
    if request.center is not None and request.scale is not None:
        return Placement(center=request.center, scale=request.scale, up=up, found_by="the user")
    x, y, z = middle.tolist()
    return Placement(center=(x, y, z), scale=BOX / float(torch.maximum(high - middle, middle - low).max()), up=up)


def _place(
    field: ForeignField, request: PlacementRequest, everything: Placement, share: Tensor
) -> tuple[Placement, float, tuple[str, ...]]:
    """Where the object goes, from what the user says or else from the weights of voxels of the field's whole box; the radius, in
    the box, of what counts of it; and sentences."""
    notes = () if field.bounded else ("a scene that goes on around its centre: of it the central region",)
    radius = math.inf if field.bounded else RADIUS
    if everything.found_by:
        return everything, radius, notes
    kept = _without_specks(torch.where(share > _SOLID, share, 0.0)) > 0
    found = voxel_centers(_COARSE, device=kept.device)[kept]
    if not len(found):
        raise ValueError(_nothing(field, everything))
    centre = (found.amin(dim=0) + found.amax(dim=0)) / 2 if request.center is None else torch.zeros_like(found[0])
    reach = float((found - centre).norm(dim=-1).max())
    if not field.bounded:
        if reach < BOX and request.scale is None:  # it stands alone: there is nothing around it to be cut off
            radius = math.inf
        reach = min(reach, BOX)
    elif bool((found.abs() > BOX - 1.5 * voxel_width(_COARSE)).any()):
        notes = (*notes, "what is seen reaches the border of its box; if that is a backdrop, say --center and --scale")
    scale = request.scale if request.scale is not None else RADIUS * everything.scale / reach
    x, y, z = everything.to_source(centre.cpu().double()).tolist()
    found_by = "what is seen from plausible cameras"
    return Placement(center=(x, y, z), scale=scale, up=everything.up, found_by=found_by), radius, notes


def _nothing(field: ForeignField, placement: Placement) -> str:
    reach = 0.7 / placement.scale
    return (
        f"{field.source}: holds no object: nothing within {reach:.3g} of {[round(part, 3) for part in placement.center]} "
        "is seen from plausible cameras; expected an object there, or --center and --scale that say where it is"
    )


def _look(
    field: ForeignField,
    placement: Placement,
    within: OccupancyGrid,
    resolution: int,
    progress: Progress,
    *,
    looked_at: Placement | None = None,
) -> tuple[Tensor, Tensor]:
    """How voxels look in views from plausible cameras.

    Args:
        within: voxels, of the box in the placement `looked_at`, outside of which nothing is.

    Returns:
        the share of the views ``(G, G, G)`` in which a voxel has weight in a pixel; and, bool, whether it has the background's
        colour in them.
    """
    generator = generator_for("points in voxels")
    centres = voxel_centers(resolution, device=field.device).view(-1, 3)
    placed = centres if looked_at is None else looked_at.to_box(placement.to_source(centres))
    numbers = within.binary.flatten()[numbers_at(placed, within.resolution)].nonzero()[:, 0]
    dense = torch.zeros(len(centres), dtype=torch.bool, device=field.device)
    stage = f"looking for the object, {resolution} voxels a side"
    for start in range(0, len(numbers), _QUERY):
        part = numbers[start : start + _QUERY]
        for _ in range(_POINTS):
            offset = (torch.rand(len(part), 3, generator=generator) - 0.5) * voxel_width(resolution)
            xyz = placement.to_source(centres[part] + offset.to(field.device))
            dense[part] |= field.density(xyz)[0][:, 0] / placement.scale > DENSITY_THRESHOLD / 4
        progress(stage, start + len(part), len(numbers))
    occupied = OccupancyGrid(dense.view((resolution,) * 3)).dilated(1)
    distance = DEFAULT_DISTANCE
    if field.camera_distance is not None:
        distance = max(_NEAREST, field.camera_distance * placement.scale)
    angle, size = field.camera_angle, resolution
    if angle is None:  # the released views show an object of `RADIUS` from `DEFAULT_DISTANCE`, and no more
        reach = RADIUS if looked_at is not None else _REACH
        angle = max(RELEASED_ANGLE_X, 2 * math.asin(min(0.9, reach / distance)))
        size = max(size, round(2 * distance * math.tan(angle / 2) / voxel_width(resolution)))
    cameras = plausible_cameras(field, _VIEWS, distance=distance, size=size, seed=1, angle=angle).to(field.device)
    highest, share, total = torch.zeros(3, len(dense), device=field.device)
    colours = torch.zeros(len(dense), 3, device=field.device)

    def observe(xyz: Tensor, weights: Tensor, rgb: Tensor) -> None:
        place = numbers_at(xyz, resolution)
        highest.scatter_reduce_(0, place, weights.float(), "amax")
        total.index_add_(0, place, weights.float())
        colours.index_add_(0, place, weights.float()[:, None] * rgb)

    query = DirectedField(placed_query(field, placement))
    for view in range(len(cameras)):
        camera, step = cameras[view : view + 1], step_length(4 * resolution)
        render_views(query, camera, occupied, step=step, first_slab=FIRST_SLAB, observe=observe)
        share += (highest > _WEIGHT) / len(cameras)
        highest.zero_()
        progress(f"{stage}: views", view + 1, len(cameras))
    white = torch.zeros_like(dense)
    if field.background is not None:
        away = colours / total.clamp(min=1e-6)[:, None] - colours.new_tensor(field.background)
        white = (share > 0) & (away.abs().amax(dim=-1) < _ALIKE)
    return share.view((resolution,) * 3), white.view((resolution,) * 3)


def _border(voxels: Tensor) -> Tensor:
    """Bool ``(G, G, G)``: those at the border of the grid."""
    inner = torch.zeros_like(voxels)
    inner[2:-2, 2:-2, 2:-2] = True
    return ~inner


def _backdrop(alike: Tensor, seeds: Tensor) -> Tensor:
    """Bool ``(G, G, G)``: of the voxels with the background's colour those connected with a seed: a field that was trained before
    a plain background may hold as much of it as it likes, a floor of white before white."""
    reached = alike & seeds
    while True:
        spread = OccupancyGrid(reached).dilated(1).binary[0] & alike
        if torch.equal(spread, reached):
            return reached
        reached = spread


def _without_specks(mass: Tensor) -> Tensor:
    """The ``(G, G, G)`` mass without parts, apart from all others, that have little of it."""
    from scipy import ndimage

    near = OccupancyGrid(mass > 0).dilated(1).binary[0]  # a gap of two voxels is bridged
    labels = torch.from_numpy(ndimage.label(near.cpu().numpy(), structure=ndimage.generate_binary_structure(3, 3))[0])
    labels = labels.to(mass.device).long()
    parts = torch.bincount(labels.flatten(), weights=mass.flatten().double())
    parts[0] = 0
    return mass * (parts[labels] >= _SPECK * parts.max())


def _enclosed(seen: Tensor) -> Tensor:
    """Bool ``(G, G, G)``: voxels from which something seen lies in most directions along the axes."""
    count = torch.zeros_like(seen, dtype=torch.int8)
    for axis in range(3):
        for order in (seen, seen.flip(axis)):
            before = order.to(torch.int32).cumsum(dim=axis) > 0
            count += (before if order is seen else before.flip(axis)).to(torch.int8)
    return count >= _ENCLOSED
