"""Where the object of a capture is: centre, size and up, found from its cameras and masks, and the way into the world box.

Shapes: V views, P points.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nerfs.fields import BOX_MAX
from ..objects.mesh import RADIUS
from ..rendering.cameras import Cameras
from ..rendering.voxels import voxel_centers, voxel_width
from .hull import visual_hull
from .placement import Placement, PlacementRequest, Vector

SEEN_BY = 0.5
"""Share of a capture's views that must have a voxel in the picture for it to count: unseen space otherwise survives."""
TOLERANCE = 0.03
"""Share of a capture's views that may show a voxel of the object empty: masks that are not quite right."""

_SNAP = math.cos(math.radians(10))  # up within so much of an axis of the file is that axis
_LEVEL = 0.1  # mean up shorter than this says nothing
_SEARCH_SIDE = 160  # pixels of the masks in which the object is looked for
_SEARCH_VIEWS = 40  # at most, spread evenly
_SEARCHES = 6
_SEARCH_RESOLUTION = 48
_FULL = 0.9


def found_placement(
    cameras: Cameras,
    masks: Tensor | None,
    *,
    known: Tensor | None = None,
    points: Tensor | None = None,
    request: PlacementRequest | None = None,
) -> Placement:
    """How to bring the object that cameras look at into the box.

    Up is the mean up of the cameras, as nerfstudio takes it, or the axis of the file that is within 10 degrees of it. With masks,
    centre and size are those of the visual hull's bounding box and of the sphere around it, which becomes the sphere that meshes
    are fitted into. Without, the centre is the point nearest to the optical axes, and the sphere holds 90 % of the points around
    it, or is the one that the images show whole from there. What already lies in the box as a fit's output does stays where it
    is.

    Args:
        cameras: cameras as the capture has them, float64.
        masks: bool ``(V, height, width)``, true where a view shows the object; None where that is not known.
        known: bool ``(V, height, width)``, false where a view says nothing.
        points: ``(P, 3)`` points of surfaces that were found with the cameras, if any.
        request: what the user says.

    Raises:
        ValueError: the views have no common object, or show it everywhere; cameras that look at nothing in common.
    """
    request = request or PlacementRequest()
    up, up_words = (request.up, "up as asked for") if request.up else _up(cameras)
    words = [up_words]
    if request.center is not None and request.scale is not None:
        return Placement(center=request.center, scale=request.scale, up=up, found_by="as asked for; " + up_words)
    center, reach, how = _by_hull(cameras, masks, known) if masks is not None else _by_focus(cameras, points)
    words.insert(0, how)
    distance = (cameras.camera_to_world[:, :3, 3].double() - torch.tensor(center, dtype=torch.float64)).norm(dim=1)
    pixel = float((distance / cameras.focal.double().amin(dim=1)).median())  # of the masks, where the object is
    if request == PlacementRequest() and _stands_in_the_box(center, reach - 2 * pixel, up):
        return Placement(center=(0.0, 0.0, 0.0), scale=1.0, found_by=f"left where it stands, in the box; {how}")
    if request.center is not None:
        reach += math.dist(request.center, center)  # whole, about another point
        center = request.center
        words.insert(0, "centre as asked for")
    if request.scale is not None:
        words.insert(0, "scale as asked for")
    return Placement(center=center, scale=request.scale or RADIUS / reach, up=up, found_by="; ".join(words))


def placed(cameras: Cameras, placement: Placement) -> Cameras:
    """The cameras where they look at the object in the box, in their dtype."""
    pose = cameras.camera_to_world.clone()
    pose[:, :3, :3] = placement.turn.to(pose) @ pose[:, :3, :3]
    pose[:, :3, 3] = placement.to_box(cameras.camera_to_world[:, :3, 3])
    return dataclasses.replace(cameras, camera_to_world=pose)


def sees_box(cameras: Cameras) -> Tensor:
    """Bool ``(V,)``: which cameras have any of the box in the picture."""
    centers = voxel_centers(8).reshape(-1, 3).to(cameras.camera_to_world)
    result = torch.zeros(len(cameras), dtype=torch.bool)
    for view in range(len(cameras)):
        pixel, depth, shown = cameras.project(view, centers)
        column, row = pixel.unbind(dim=1)
        inside = shown & (depth > 0) & (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
        result[view] = inside.any()
    return result


def _up(cameras: Cameras) -> tuple[Vector, str]:
    mean = cameras.camera_to_world[:, :3, 1].mean(dim=0)
    if float(mean.norm()) < _LEVEL:
        return (0.0, 0.0, 1.0), "up is z: the cameras do not agree on an up (--up says it)"
    mean = F.normalize(mean, dim=0)
    axis = int(mean.abs().argmax())
    if float(mean.abs()[axis]) >= _SNAP:
        sign = 1.0 if float(mean[axis]) > 0 else -1.0
        up: Vector = tuple(sign if number == axis else 0.0 for number in range(3))  # type: ignore[assignment]
        return up, f"up is {'' if sign > 0 else '-'}{'xyz'[axis]}, near the cameras' mean up"
    x, y, z = mean.tolist()
    return (x, y, z), "up is the cameras' mean up"


def focus(cameras: Cameras) -> Tensor:
    """The point ``(3,)`` nearest to all optical axes, float64. Raises `ValueError` for axes that are parallel or go apart."""
    pose = cameras.camera_to_world.double()
    axes, origins = -pose[:, :3, 2], pose[:, :3, 3]
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]
    matrix = across.mean(dim=0)
    if float(torch.linalg.eigvalsh(matrix)[0]) < 1e-4:
        raise ValueError(
            "its cameras all look in one direction, so the object's distance cannot be found from them; "
            "expected views from around an object, or --center X,Y,Z and --scale S"
        )
    point = torch.linalg.solve(matrix, (across @ origins[:, :, None]).mean(dim=0))[:, 0]
    ahead = ((point - origins) * axes).sum(dim=1) > 0
    if float(ahead.double().mean()) < 0.5:
        raise ValueError(
            "most of its cameras look away from what they stand around; expected views of an object from outside "
            "(OpenGL axes: cameras look along -z), or --center X,Y,Z and --scale S"
        )
    return point


def _by_hull(cameras: Cameras, masks: Tensor, known: Tensor | None) -> tuple[Vector, float, str]:
    """Centre and radius of the visual hull: the cube in which it is looked for shrinks about what is left of it."""
    if len(cameras) > _SEARCH_VIEWS:
        chosen = [number * len(cameras) // _SEARCH_VIEWS for number in range(_SEARCH_VIEWS)]
        cameras, masks = cameras[chosen], masks[chosen]
        known = None if known is None else known[chosen]
    factor = max(1, math.ceil(max(cameras.width, cameras.height) / _SEARCH_SIDE))
    width, height = -(-cameras.width // factor), -(-cameras.height // factor)
    # The last blocks of pixels may reach beyond the image.
    small = dataclasses.replace(cameras, width=width * factor, height=height * factor).resized(width, height)
    masks = _shrunk(masks, factor)
    known = None if known is None else ~_shrunk(~known, factor)
    center = focus(cameras)
    distance = (cameras.camera_to_world[:, :3, 3].double() - center).norm(dim=1)
    half = float(distance.median())
    reach = half
    for search in range(_SEARCHES):
        cube = Placement(center=_vector(center), scale=BOX_MAX / half)
        hull = visual_hull(
            masks,
            placed(small, cube).to(torch.float32),
            known=known,
            seen_by=SEEN_BY,
            tolerance=TOLERANCE,
            by_depth=True,
            resolution=_SEARCH_RESOLUTION,
        ).binary[0]
        if not bool(hull.any()):
            raise ValueError(
                "its views have no object in common: no place is covered in all that show it; expected cameras that belong to "
                "the images, and opacity or masks that are white on the object"
            )
        if not search and _is_full(hull, small, known, cube):
            raise ValueError(
                "its views show the object everywhere: opacity or masks leave nothing free; expected an object before an empty "
                "background, or --background R,G,B, or images without opacity"
            )
        inside = cube.to_source(voxel_centers(_SEARCH_RESOLUTION)[hull].double())
        low, high = inside.amin(dim=0), inside.amax(dim=0)
        center = (low + high) / 2
        reach = float((inside - center).norm(dim=1).max())
        smaller = float((high - low).max()) / 2 * 1.1 + voxel_width(_SEARCH_RESOLUTION) / cube.scale
        if smaller > 0.85 * half:
            break
        half = smaller
    return _vector(center), reach, "centre and size by the visual hull"


def _is_full(hull: Tensor, cameras: Cameras, known: Tensor | None, cube: Placement) -> bool:
    """Whether a hull is nearly all that enough cameras see of a cube."""
    shape = (len(cameras), cameras.height, cameras.width)
    seen = visual_hull(
        torch.ones(shape, dtype=torch.bool),
        placed(cameras, cube).to(torch.float32),
        known=known,
        seen_by=SEEN_BY,
        resolution=_SEARCH_RESOLUTION,
    ).binary[0]
    return int(hull.sum()) > _FULL * int(seen.sum())


def _shrunk(masks: Tensor, factor: int) -> Tensor:
    """Masks whose pixels are true where any of `factor` x `factor` was."""
    if factor == 1:
        return masks
    parts = [F.max_pool2d(mask[None, None].float(), factor, ceil_mode=True)[0, 0] > 0 for mask in masks]
    return torch.stack(parts)


def _by_focus(cameras: Cameras, points: Tensor | None) -> tuple[Vector, float, str]:
    """The cameras' focus, and the largest sphere about it that most images show whole, cut where points end."""
    center = focus(cameras)
    distance = (cameras.camera_to_world[:, :3, 3].double() - center).norm(dim=1)
    half_sides = torch.tensor([cameras.width, cameras.height], dtype=torch.float64) / 2
    angle = torch.atan((half_sides / cameras.focal.double()).amin(dim=1))
    reach = float((distance * angle.sin()).median())
    reach = min(reach, 0.6 * float(distance.median()))
    how = "centre by the cameras' focus, size by what the images show about it"
    if points is not None and len(points) >= 100:
        near = (points.double() - center).norm(dim=1)
        near = near[near < reach]
        if len(near) >= 50 and float(near.quantile(0.9)) < reach:
            reach = max(float(near.quantile(0.9)), 0.25 * reach)
            how = "centre by the cameras' focus, size by the points around it"
    return _vector(center), reach, how


def _stands_in_the_box(center: Vector, reach: float, up: Vector) -> bool:
    """Whether a sphere lies as those of fits do: in the box, not small in it, z up."""
    return up == (0.0, 0.0, 1.0) and math.hypot(*center) < 0.15 and 0.3 * RADIUS <= reach <= 1.25 * RADIUS


def _vector(values: Tensor) -> Vector:
    x, y, z = values.tolist()
    return x, y, z
