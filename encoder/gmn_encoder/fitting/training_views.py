"""The views of objects that are fitted together, on one device, and the rays that an iteration draws of them.

Shapes: B objects, V views of all of them, R rays of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..rendering.cameras import Cameras, Rays
from ..rendering.images import rgba_over
from ..rendering.occupancy import OccupancyGrid
from .hull import near_mask
from .posed_images import PosedImages

_MARGIN = 0.035  # of the image: how far beyond the object rays are drawn


@dataclass(frozen=True, eq=False)
class DrawnRays:
    """R rays of B objects, object after object.

    Attributes:
        rays: R rays, with the number of each one's object.
        target: colour ``(R, 3)`` that the views show there over `background`.
        background: colour behind each ray, ``(R, 3)``.
        jitter: ``(R,)`` in 0..1, the part of a step by which a ray's samples are moved.
    """

    rays: Rays
    target: Tensor
    background: Tensor
    jitter: Tensor

    @property
    def owner(self) -> Tensor:
        """int64 ``(R,)``: the object of each ray."""
        if self.rays.nerf_index is None:
            raise ValueError("drawn rays without nerf_index; expected the object of each ray")
        return self.rays.nerf_index


class TrainingViews:
    """All pixels and cameras of B objects, the pixels worth drawing, and the objects' visual hulls.

    Args:
        objects: what is fitted to, with images of one size.
        device: the device that holds pixels and cameras.

    Raises:
        ValueError: no object, or images of different sizes.
    """

    def __init__(self, objects: Sequence[PosedImages], device: torch.device) -> None:
        sizes = sorted({(each.cameras.width, each.cameras.height) for each in objects})
        if len(sizes) != 1:
            raise ValueError(f"images of sizes {sizes}; expected one size for all objects that are fitted together")
        self.device = device
        pixels, self.candidates, first = [], [], 0
        cameras = [each.cameras.to(device) for each in objects]
        margin = math.ceil(_MARGIN * max(sizes[0]))
        for each in objects:
            images = each.images.to(device)
            shown = near_mask(images[..., 3] > 0, margin)
            if each.known is not None:
                shown &= each.known.to(device)
            self.candidates.append(shown.flatten().nonzero()[:, 0].add_(first).to(torch.int32))
            pixels.append(images.reshape(-1, 4))
            first += len(pixels[-1])
        self.pixels = torch.cat(pixels)
        self.cameras = Cameras.cat(cameras)
        self.hull = OccupancyGrid.stack([each.hull(device) for each in objects])
        self.backgrounds = [None if each.background is None else each.background.to(device) for each in objects]

    def draw(self, counts: Sequence[int], generators: Sequence[torch.Generator]) -> DrawnRays:
        """So many rays of each object, over its own background or, with opacity in its images, over a random one each."""
        flat, colours, jitters, owners = [], [], [], []
        for number, (count, generator) in enumerate(zip(counts, generators, strict=True)):
            candidates, background = self.candidates[number], self.backgrounds[number]
            chosen = torch.randint(len(candidates), (count,), generator=generator, device=self.device)
            flat.append(candidates[chosen])
            numbers = torch.rand(count, 4, generator=generator, device=self.device)
            colours.append(numbers[:, :3] if background is None else background.expand(count, 3))
            jitters.append(numbers[:, 3])
            owners.append(torch.full((count,), number, device=self.device))
        index, background, owner = torch.cat(flat).to(torch.int64), torch.cat(colours), torch.cat(owners)
        width, area = self.cameras.width, self.cameras.width * self.cameras.height
        pixel = index % area
        rays = self.cameras.rays(index // area, pixel // width, pixel % width)
        return DrawnRays(
            Rays(rays.origins, rays.directions, owner),
            rgba_over(self.pixels[index], background),
            background,
            torch.cat(jitters),
        )
