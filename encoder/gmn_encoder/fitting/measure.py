"""How well a fitted NeRF shows views that it was not fitted to. Shapes: V views."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nerfs.record import Nerf
from ..progress import Progress, no_progress
from ..rendering.cameras import Cameras
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
    progress: Progress = no_progress,
) -> tuple[list[float], Tensor]:
    """PSNR in dB of each view over white, whole images, with the released step; and the rendered views ``(V, h, w, 3)``.

    Args:
        nerf, grid, cameras: the NeRF, its occupancy grid and the views' cameras, on one device.
        images: uint8 ``(V, height, width, 4)``, sRGB and straight opacity.
    """
    if not len(images):
        return [], images.new_zeros(0, cameras.height, cameras.width, 3).float()
    white = torch.ones(3, device=cameras.focal.device)
    stacked = {key: tensor[None].to(white.device) for key, tensor in nerf.tensors.items()}
    batch = TrainedBatch(nerf.architecture, stacked, nerf.architecture.used_frequencies(nerf.tensors))

    def field(xyz: Tensor, nerf_index: Tensor | None) -> tuple[Tensor, Tensor]:
        rgb, density = batch.query(xyz[None])
        return rgb[0], density[0]

    seen = render_views(field, cameras, grid, background=white, progress=progress).colour.clamp(0, 1)
    error = (seen - rgba_over(images.to(seen.device), white)).square().flatten(1).mean(dim=1)
    return psnr_of_error(error).tolist(), seen
