"""Pictures of a NeRF for people, RGB over white: from given cameras, or the one picture that stands for it on a page."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ..files import StrPath
from ..nerfs.files import load_nerf
from ..nerfs.record import Nerf
from ..progress import Progress, no_progress
from .baking import bake_nerf
from .camera_files import camera_file, read_cameras
from .cameras import Cameras, three_quarter_view
from .images import to_images
from .marching import STEP
from .occupancy import RESOLUTION, find_occupancy
from .render import render_views


def nerf_pictures(
    nerf: Nerf,
    cameras: Cameras,
    *,
    voxels: int = RESOLUTION,
    bake: bool = False,
    step: float = STEP,
    progress: Progress = no_progress,
) -> list[Image.Image]:
    """A picture from each camera.

    Args:
        nerf: the NeRF; a `grid.pth` beside its weights says where to look.
        cameras: V of them, on the NeRF's device.
        voxels: the resolution of the grid that is made where there is none.
        bake: whether to render interpolated values of `voxels` ** 3 places, which pays for many views.
        step: the length of a sample.
        progress: receives the rays done and all.
    """
    grid = find_occupancy(nerf, resolution=voxels).to(cameras.camera_to_world.device)
    field = bake_nerf(nerf, grid, resolution=voxels) if bake else nerf
    return to_images(render_views(field, cameras, grid, step=step, progress=progress), torch.ones(3))


def nerf_picture(path: StrPath, *, size: int) -> Image.Image:
    """The NeRF from obliquely in front: of the images that it was fitted to the nearest to that, else a rendering.

    Raises:
        FileNotFoundError, ValueError: see `load_nerf`, where there is no image; an image that cannot be read.
    """
    beside = fitted_image(path)
    if beside is not None:
        return picture_file(beside, size=size)
    return nerf_pictures(load_nerf(path), three_quarter_view(size=size))[0]


def fitted_image(path: StrPath) -> Path | None:
    """Of the images beside a NeRF's weights the one that was taken nearest to the `three_quarter_view`.

    Where no camera says which that is, it is the first, ``train/00.png``; None where there are none, or none is near.
    """
    path = Path(path)
    first = path / "train" / "00.png"
    if not first.is_file():
        return None
    try:
        cameras = read_cameras(camera_file(path))
    except (ValueError, OSError):
        return first
    wanted = three_quarter_view().camera_to_world[0, :3, 3]
    near = torch.nn.functional.cosine_similarity(cameras.camera_to_world[:, :3, 3], wanted[None], dim=1)
    for place in near.argsort(descending=True).tolist():
        name = cameras.image_names[place] if cameras.image_names else f"train/{place:02d}"
        if (image := path / f"{name}.png").is_file():
            return image if float(near[place]) > _NEAR else None
    return first


_NEAR = 0.7
"""Cosine of the largest angle between a camera and the three-quarter view whose image still stands for it, 45 degrees."""


def picture_file(path: StrPath, *, size: int) -> Image.Image:
    """A picture file over white, `size` pixels wide and high. Raises `ValueError` where it is none."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except OSError as error:
        raise ValueError(f"{path}: is no picture ({error})") from error
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
