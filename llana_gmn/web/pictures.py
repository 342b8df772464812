"""Pictures for the page: a still and a turntable of a NeRF."""

from __future__ import annotations

import secrets
from pathlib import Path

from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.progress import Progress, no_progress
from gmn_encoder.rendering.cameras import turntable
from gmn_encoder.rendering.images import save_images
from gmn_encoder.rendering.marching import STEP
from gmn_encoder.rendering.pictures import nerf_pictures

from .options import PictureSizes

_FIRST_VIEW = 3  # of the turntable's: from obliquely in front, where most objects are recognised
_STEP = 4 * STEP  # a voxel of the baked grid is six of the released renderer's steps wide


def write_picture(
    file: Path, nerf: Nerf, *, turning: bool, sizes: PictureSizes, progress: Progress = no_progress
) -> None:
    """Write a GIF of the NeRF turning, or a PNG of the view that it begins with. `progress` receives rays done and all rays."""
    size, views = (sizes.turn, sizes.views) if turning else (sizes.still, 1)
    cameras = turntable(sizes.views, size=size)[[(_FIRST_VIEW + view) % sizes.views for view in range(views)]]
    # Baking pays for many views, a fine grid for what turns in a large picture.
    voxels = sizes.turn_voxels if turning else sizes.still_voxels
    images = nerf_pictures(nerf, cameras, voxels=voxels, bake=turning, step=_STEP, progress=progress)
    save_images(images, file, seconds=6.0)


def new_key() -> str:
    """A name that nobody guesses, and that says nothing."""
    return secrets.token_urlsafe(16)


def picture_file(folder: Path, key: str, *, turning: bool) -> Path:
    """Where the picture of an entry stands, or will."""
    return folder / f"{key}.{'gif' if turning else 'png'}"
