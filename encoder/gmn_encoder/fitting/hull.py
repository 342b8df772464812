"""The visual hull: the voxels that no view shows to be empty, from which training starts.

Without it a NeRF of these sizes spends its time on fog in free space (16 to 18 dB where the hull leads to 24 to 34).

Shapes: V views, G voxels along an axis, Q voxels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..rendering.cameras import Cameras
from ..rendering.occupancy import OccupancyGrid
from ..rendering.voxels import DIAGONAL, RESOLUTION, voxel_centers

_COARSE = 4


@torch.no_grad()
def visual_hull(
    masks: Tensor,
    cameras: Cameras,
    *,
    known: Tensor | None = None,
    seen_by: float = 0.0,
    tolerance: float = 0.0,
    by_depth: bool = False,
    resolution: int = RESOLUTION,
) -> OccupancyGrid:
    """Voxels whose neighbourhood every view that has them in the picture shows covered.

    A voxel counts as covered by a view if anything is within its projected bounding sphere, so that nothing is carved off an
    object that the views show, not even its thinnest parts.

    Args:
        masks: bool ``(V, height, width)``, true where a view shows the object.
        cameras: the cameras of the views.
        known: bool ``(V, height, width)``, false where a view says nothing; None: it says something everywhere.
        seen_by: share of the views that must have a voxel in the picture; what fewer see is taken as empty.
        tolerance: share of the views that may show a voxel empty all the same (masks that were made by hand or by a network).
        by_depth: whether spheres are projected at their own depth, within a factor of two, instead of all at that of the one
            nearest to the camera: tighter, and needed where cameras stand near the box or in it.
        resolution: voxels along an axis.
    """
    half = DIAGONAL / resolution / 2
    allowed = math.floor(tolerance * len(cameras))
    left = voxel_centers(resolution, device=masks.device).reshape(-1, 3)
    numbers = torch.arange(len(left), device=masks.device)
    if resolution % _COARSE == 0 and resolution >= 8 * _COARSE:
        # A coarse voxel's sphere holds those of its parts: what is empty there is empty here.
        coarse = visual_hull(
            masks, cameras, known=known, tolerance=tolerance, by_depth=by_depth, resolution=resolution // _COARSE
        ).binary[0]
        for axis in range(3):
            coarse = coarse.repeat_interleave(_COARSE, dim=axis)
        numbers = coarse.flatten().nonzero()[:, 0]
        left = left[numbers]
    seen, empty = (torch.zeros(len(left), dtype=torch.int32, device=masks.device) for _ in range(2))
    for view in range(len(cameras)):
        pixel, depth, shown = cameras.project(view, left)
        column, row = pixel.floor().clamp(-1, 1 << 30).to(torch.int64).unbind(dim=1)
        inside = shown & (depth > half) & (column >= 0) & (column < cameras.width)
        inside &= (row >= 0) & (row < cameras.height)
        place = row.clamp(0, cameras.height - 1) * cameras.width + column.clamp(0, cameras.width - 1)
        if known is not None:
            inside &= known[view].flatten()[place]
        covered = _covered(masks[view], place, depth, cameras.magnification(view), half, by_depth=by_depth)
        seen += inside
        empty += inside & ~covered
        kept = empty <= allowed
        left, numbers, seen, empty = left[kept], numbers[kept], seen[kept], empty[kept]
    binary = torch.zeros(resolution**3, dtype=torch.bool, device=masks.device)
    binary[numbers[seen >= seen_by * len(cameras)]] = True
    return OccupancyGrid(binary.view((resolution,) * 3))


def _covered(
    mask: Tensor, place: Tensor, depth: Tensor, magnification: float, half: float, *, by_depth: bool
) -> Tensor:
    """Bool ``(Q,)``: whether anything of a mask ``(height, width)`` is within the projections of spheres of radius `half`, at
    depths ``(Q,)`` and about pixels `place` ``(Q,)``."""
    depth = depth.clamp(min=half)
    covered = torch.ones(len(depth), dtype=torch.bool, device=mask.device)
    if not len(depth) or bool(mask.all()):
        return covered
    exponent = (depth / half).log2().floor() if by_depth else torch.zeros_like(depth)
    for power in exponent.unique():
        chosen = exponent == power
        closest = max(float(depth[chosen].min()), half)
        radius = math.ceil(magnification * half / closest + 0.5)
        near = near_mask(mask[None], min(radius, max(mask.shape)))[0]
        covered[chosen] = near.flatten()[place[chosen]]
    return covered


def near_mask(masks: Tensor, radius: int) -> Tensor:
    """Bool ``(V, height, width)``: pixels within `radius` (along rows and columns) of one in the masks."""
    for axis in (1, 2):
        total = 0
        while total < radius:  # what is reached doubles with every turn
            move = min(radius - total, 2 * total + 1)
            length = masks.shape[axis] - move
            reached = masks.clone()
            if length > 0:
                reached.narrow(axis, move, length).logical_or_(masks.narrow(axis, 0, length))
                reached.narrow(axis, 0, length).logical_or_(masks.narrow(axis, move, length))
            masks, total = reached, total + move
    return masks
