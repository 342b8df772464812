"""What a NeRF is fitted to: posed images with opacity, whatever they were made from.

Shapes: V views.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..objects import ProceduralObject
from ..rendering.cameras import Cameras
from ..rendering.occupancy import OccupancyGrid
from .hull import visual_hull
from .placement import Placement

HELD_OUT_VIEWS = 4
"""Views of meshes and procedural objects that are taken besides, to measure on."""

HELD_OUT_SEED = 7919


@dataclass(frozen=True, eq=False)
class PosedImages:
    """What a NeRF is fitted to.

    Attributes:
        class_id, nerf_id: directory names of the output.
        source: name of where it comes from, for the record.
        images: uint8 ``(V, height, width, 4)``, sRGB and straight opacity, on the CPU.
        cameras: the cameras of the views, on the CPU.
        held_out, held_out_cameras: views to measure on, which training does not see; may be none.
        background: ``(3,)`` in 0..1 where the images stand before a colour and opacity is what was told apart from it.
        notes: sentences worth saying about it.
        procedural: the procedural object, if it is one.
        placement: how the source's own world was brought into the box, where it was.
        known, held_out_known: bool ``(V, height, width)``, false where an image says nothing (masked, beyond its lens); None: it
            says something everywhere.
        seen_by, tolerance: what `visual_hull` takes the images' opacity with.
        surrounded: whether there is no opacity and the images show what is around the object, which is learnt besides.
        region: voxels outside of which nothing is known to be, where a source knows more than its views show.
    """

    class_id: str
    nerf_id: str
    source: str
    images: Tensor
    cameras: Cameras
    held_out: Tensor
    held_out_cameras: Cameras
    background: Tensor | None = None
    notes: tuple[str, ...] = ()
    procedural: ProceduralObject | None = field(default=None, repr=False)
    placement: Placement | None = None
    known: Tensor | None = field(default=None, repr=False)
    held_out_known: Tensor | None = field(default=None, repr=False)
    seen_by: float = 0.0
    tolerance: float = 0.0
    surrounded: bool = False
    region: OccupancyGrid | None = field(default=None, repr=False)
    _hulls: dict[torch.device, OccupancyGrid] = field(default_factory=dict, init=False, repr=False)

    def hull(self, device: torch.device) -> OccupancyGrid:
        """The visual hull of the views, found once for all families that are fitted to them."""
        if device not in self._hulls:
            hull = visual_hull(
                (self.images[..., 3] > 0).to(device),
                self.cameras.to(device),
                known=None if self.known is None else self.known.to(device),
                seen_by=self.seen_by,
                tolerance=self.tolerance,
                by_depth=self.seen_by > 0,
            )
            if self.region is not None:
                hull = OccupancyGrid(hull.binary & self.region.to(device).binary)
            self._hulls[device] = hull
        return self._hulls[device]

    def __post_init__(self) -> None:
        for images, cameras in ((self.images, self.cameras), (self.held_out, self.held_out_cameras)):
            expected = (len(cameras), cameras.height, cameras.width, 4)
            if tuple(images.shape) != expected or images.dtype != torch.uint8:
                raise ValueError(
                    f"{self.source}: images have shape {list(images.shape)} and dtype {images.dtype}; "
                    f"expected uint8 {list(expected)}, a picture for each camera"
                )
        if not bool((self.images[..., 3] > 0).any()):
            raise ValueError(f"{self.source}: nothing is seen in any view; expected an object")
