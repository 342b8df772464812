"""How well a fitted NeRF shows views that it was not fitted to. Shapes: V views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..nerfs.record import Nerf
from ..progress import Progress, no_progress
from ..rendering.cameras import Cameras, Rays
from ..rendering.images import rgba_over
from ..rendering.occupancy import OccupancyGrid
from ..rendering.psnr import psnr_of_error
from ..rendering.render import render_views
from .field import TrainedBatch


@torch.no_grad()
def held_out_psnr(
    nerf: Nerf,
    grid: OccupancyGrid,
    images: Tensor,
    cameras: Cameras,
    *,
    known: Tensor | None = None,
    behind: Callable[[Rays], Tensor] | None = None,
    progress: Progress = no_progress,
) -> tuple[list[float], Tensor]:
    """PSNR in dB of each view over white, whole images, with the released step; and the rendered views ``(V, h, w, 3)``.

    Args:
        nerf, grid, cameras: the NeRF, its occupancy grid and the views' cameras, on one device.
        images: uint8 ``(V, height, width, 4)``, sRGB and straight opacity.
        known: bool ``(V, height, width)``, false where the images say nothing, which does not count; None: it counts everywhere.
        behind: colours ``(R, 3)`` of rays behind the box, of images without opacity; white if left out.
        progress: receives the rays done and all.
    """
    if not len(images):
        return [], images.new_zeros(0, cameras.height, cameras.width, 3).float()
    white = torch.ones(3, device=cameras.focal.device)
    stacked = {key: tensor[None].to(white.device) for key, tensor in nerf.tensors.items()}
    batch = TrainedBatch(nerf.architecture, stacked, nerf.architecture.used_frequencies(nerf.tensors))

    def field(xyz: Tensor, nerf_index: Tensor | None) -> tuple[Tensor, Tensor]:
        rgb, density = batch.query(xyz[None])
        return rgb[0], density[0]

    rendering = render_views(field, cameras, grid, progress=progress)
    background = white
    if behind is not None:
        background = torch.stack([behind(cameras.image_rays(view)) for view in range(len(cameras))])
        background = background.view(rendering.colour.shape)
    seen = rendering.over(background).colour.clamp(0, 1)
    error = (seen - rgba_over(images.to(seen.device), white)).square().mean(dim=-1).flatten(1)
    counts = torch.ones_like(error) if known is None else known.to(seen.device).flatten(1).float()
    return psnr_of_error((error * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)).tolist(), seen
