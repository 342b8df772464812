"""Pictures for the page: a still and a turntable of a NeRF, rendered once each into a folder."""

from __future__ import annotations

import threading
from pathlib import Path

from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.progress import Progress, no_progress
from gmn_encoder.rendering.cameras import turntable
from gmn_encoder.rendering.images import save_images
from gmn_encoder.rendering.marching import STEP
from gmn_encoder.rendering.pictures import nerf_pictures

STILL_SIZE, TURN_SIZE, TURN_VIEWS = 128, 176, 24
VOXELS, STILL_VOXELS = 128, 64
_FIRST_VIEW = 3  # of the turntable's: from obliquely in front, where most objects are recognised
_STEP = 4 * STEP  # a voxel of the baked grid is six of the released renderer's steps wide


class Pictures:
    """Pictures of NeRFs by key, made when they are first asked for.

    Args:
        folder: directory that they are written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # one at a time: a second visitor finds the first one's

    def still(self, key: str, nerf: Nerf) -> Path:
        """A PNG of the view that the turntable begins with."""
        return self._picture(self._folder / f"{key}.png", nerf, 1, STILL_SIZE, no_progress)

    def turntable(self, key: str, nerf: Nerf, *, progress: Progress = no_progress) -> Path:
        """A GIF of the NeRF turning. `progress` receives rays done and all rays."""
        return self._picture(self._folder / f"{key}.gif", nerf, TURN_VIEWS, TURN_SIZE, progress)

    def is_turning(self, key: str) -> bool:
        """Whether the turntable has been made."""
        return (self._folder / f"{key}.gif").is_file()

    def _picture(self, file: Path, nerf: Nerf, views: int, size: int, progress: Progress) -> Path:
        with self._lock:
            if not file.is_file():
                turning = views > 1  # baking pays for many views, a fine grid for what turns in a large picture
                cameras = turntable(TURN_VIEWS, size=size)[[(_FIRST_VIEW + view) % TURN_VIEWS for view in range(views)]]
                voxels = VOXELS if turning else STILL_VOXELS
                images = nerf_pictures(nerf, cameras, voxels=voxels, bake=turning, step=_STEP, progress=progress)
                save_images(images, file, seconds=6.0)
        return file
