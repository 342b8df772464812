"""A NeRF turned into another one's frame: fitted anew to views of it, taken by cameras that were turned the other way.

Weights cannot be turned: rows of a hash table and cells of a plane belong to places, and the axes of frequency features to the
box. What a camera sees of a turned object, it sees of the object itself from where the turn would have brought it from. So the
views are exact, and a new NeRF of the same architecture is fitted to them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..files import StrPath
from ..nerfs.architectures import NANO_ARCHITECTURES
from ..nerfs.files import WEIGHTS_NAME
from ..nerfs.record import Nerf
from ..objects import ViewSettings
from ..pose.estimate import PoseAnswer
from ..progress import Progress, no_progress
from ..rendering.cameras import Cameras, sphere, turntable
from ..rendering.images import contact_sheet
from ..rendering.occupancy import OccupancyGrid, find_occupancy
from ..rendering.pictures import nerf_pictures
from ..rendering.render import render_views
from .job import FitJob
from .output import nerf_directory
from .posed_images import HELD_OUT_SEED, HELD_OUT_VIEWS, PosedImages
from .presets import preset
from .quality import least_psnr
from .sources import Source, source_ids

_VIEWS = 4  # of the picture
_VISIBLE = 0.02  # opacity below which a pixel shows nothing: the haze of small NeRFs is no object


def cameras_before(cameras: Cameras, motion: PoseAnswer) -> Cameras:
    """Cameras that see of an object what the given ones see of it once it is moved by ``p -> scale R p + shift``."""
    back = motion.matrix.T.to(cameras.camera_to_world)
    poses = cameras.camera_to_world.clone()
    poses[:, :3, :3] = back @ poses[:, :3, :3]
    poses[:, :3, 3] = (poses[:, :3, 3] - poses.new_tensor(motion.shift)) @ back.T / motion.scale
    return dataclasses.replace(cameras, camera_to_world=poses)


def views_of_moved(
    nerf: Nerf, motion: PoseAnswer, settings: ViewSettings, *, progress: Progress = no_progress
) -> PosedImages:
    """Views of a moved NeRF, and `HELD_OUT_VIEWS` from elsewhere to measure on; it is rendered on its own device."""
    grid = find_occupancy(nerf, progress=progress)
    images, cameras = _take_views(nerf, grid, motion, settings, progress)
    held_out = ViewSettings(n_views=HELD_OUT_VIEWS, size=settings.size, seed=settings.seed + HELD_OUT_SEED)
    held, held_cameras = _take_views(nerf, grid, motion, held_out, progress)
    return PosedImages(*_ids(nerf), f"{nerf.name}, turned", images, cameras, held, held_cameras)


def _take_views(
    nerf: Nerf, grid: OccupancyGrid, motion: PoseAnswer, settings: ViewSettings, progress: Progress
) -> tuple[Tensor, Cameras]:
    cameras = sphere(settings.n_views, size=settings.size, seed=settings.seed)
    device = next(iter(nerf.tensors.values())).device
    seen = render_views(nerf, cameras_before(cameras, motion).to(device), grid.to(device), progress=progress)
    opacity = torch.where(seen.opacity < _VISIBLE, 0.0, seen.opacity)[..., None]
    straight = torch.cat([seen.colour / seen.opacity.clamp(min=1e-6)[..., None], opacity], dim=-1)
    names = tuple(f"train/{number:02d}" for number in range(settings.n_views))
    images = straight.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    return images, dataclasses.replace(cameras, image_names=names)


def default_quality(nerf: Nerf) -> str:
    """The preset that a NeRF is fitted anew with: "nano" for the nano architectures, else "quick"."""
    return "nano" if nerf.architecture in NANO_ARCHITECTURES.values() else "quick"


def fit_moved(
    nerf: Nerf,
    motion: PoseAnswer,
    out: StrPath,
    *,
    quality: str | None = None,
    device: torch.device | str | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Fit a NeRF of the same architecture to a moved one, whatever stood in its place before.

    Args:
        nerf: the NeRF.
        motion: how it is moved.
        out: directory of the output, in the released layout.
        quality: name of a preset; None: that of `default_quality`.
        device: where the training runs; the default device if left out.
        progress: receives what `FitJob`'s callback receives.

    Returns:
        the new NeRF's directory.

    Raises:
        ValueError: an unknown quality; nothing of the NeRF is in the box; a fit that ends far below what the preset reaches.
    """
    quality = quality or default_quality(nerf)
    settings = preset(quality, nerf.family)
    nerf = nerf.to(torch.empty(0, device=device).device)
    class_id, nerf_id = _ids(nerf)
    views = ViewSettings(n_views=settings.views, size=settings.size)
    errors: list[Exception] = []
    job = FitJob(
        out=out,
        settings={nerf.architecture: settings},
        device=device,
        resume=False,
        least_psnr=least_psnr(quality),
        on_error=errors.append,
        progress=progress,
    )
    job.run([Source(nerf.name, class_id, nerf_id, lambda: views_of_moved(nerf, motion, views, progress=progress))])
    if errors:
        raise errors[0]
    return nerf_directory(out, nerf.architecture, class_id, nerf_id)


def alignment_picture(before: Nerf, after: Nerf, target: Nerf, *, size: int = 112) -> Image.Image:
    """Three rows of views from around: a NeRF, the same turned and fitted anew, and the one that it was turned to."""
    cameras = turntable(_VIEWS, size=size)
    rows = [nerf_pictures(nerf, cameras, bake=True) for nerf in (before, after, target)]
    return contact_sheet([picture for row in rows for picture in row], columns=_VIEWS)


def _ids(nerf: Nerf) -> tuple[str, str]:
    if nerf.source is None:
        return "aligned", nerf.family
    return source_ids(nerf.source.parent if nerf.source.name == WEIGHTS_NAME else nerf.source)
