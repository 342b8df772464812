"""Capture folders made from synthetic cameras: a procedural object as other people's cameras would have taken it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gmn_encoder.objects import generate
from gmn_encoder.objects.views import render_views
from gmn_encoder.rendering.camera_files import write_cameras
from gmn_encoder.rendering.cameras import Cameras, sphere
from gmn_encoder.rendering.lenses import Lens


def upper_cameras(count: int, size: int, *, coefficients=None, fisheye=False, shift=(0.0, 0.0)) -> Cameras:
    """`count` upright cameras above an object in the box; a lens, and a principal point off the middle."""
    cameras = sphere(2 * count, size=size, seed=3)
    cameras = cameras[(-cameras.camera_to_world[:, 2, 3]).argsort()[:count].tolist()]
    factor = 0.9 if coefficients is not None or fisheye else 1.0  # what the lens bends outwards stays in the picture
    lens = None
    if coefficients is not None or fisheye:
        rows = torch.tensor([coefficients or [0.0] * 6] * count, dtype=torch.float64)
        lens = Lens(rows, torch.full((count,), fisheye))
    moved = cameras.principal_point + size * torch.tensor(shift)
    return Cameras(cameras.camera_to_world, cameras.focal * factor, moved, size, size, (), lens)


def pictures_of(cameras: Cameras, *, name: str = "chair", seed: int = 1) -> np.ndarray:
    """uint8 ``(V, size, size, 4)`` of a procedural object in the box."""
    return render_views(generate(name, seed).mesh, cameras, caster="embree")


def elsewhere(cameras: Cameras, *, scale: float, center: tuple[float, float, float], y_up: bool = False) -> Cameras:
    """The cameras in another world, where the object is `scale` times as large, about `center`."""
    pose = cameras.camera_to_world.double().clone()
    pose[:, :3, 3] *= scale
    if y_up:  # (x, y, z) -> (x, z, -y)
        turn = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
        pose[:, :3] = turn @ pose[:, :3]
    pose[:, :3, 3] += torch.tensor(center, dtype=torch.float64)
    return dataclasses.replace(cameras.to(torch.float64), camera_to_world=pose)


def write_folder(folder: Path, cameras: Cameras, images: np.ndarray, *, background=None, suffix=".png") -> Path:
    """A folder with `transforms.json` and `images`; over a colour ``(3,)`` of 0..255, without opacity, if there is one."""
    (folder / "images").mkdir(parents=True)
    names = tuple(f"images/{number:04d}{suffix}" for number in range(len(images)))
    write_cameras(dataclasses.replace(cameras, image_names=names), folder / "transforms.json")
    for name, image in zip(names, images, strict=True):
        if background is None:
            Image.fromarray(image).save(folder / name)
            continue
        opacity = image[..., 3:] / 255
        flat = image[..., :3] * opacity + np.asarray(background) * (1 - opacity)
        Image.fromarray(np.rint(flat).astype(np.uint8)).save(folder / name, quality=95)
    return folder


def in_a_room(images: np.ndarray, cameras: Cameras) -> np.ndarray:
    """The images before a coloured floor and far walls, without opacity: ``(V, size, size, 3)``."""
    result = []
    for view, image in enumerate(images):
        rays = cameras.image_rays(view)
        origin, direction = rays.origins.double().numpy(), rays.directions.double().numpy()
        distance = np.full(len(origin), np.inf)
        for axis, side in ((2, -0.9), (2, 4.0), (0, -5.0), (0, 5.0), (1, -5.0), (1, 5.0)):
            with np.errstate(divide="ignore", invalid="ignore"):
                hit = (side - origin[:, axis]) / direction[:, axis]
            distance = np.where((hit > 0) & (hit < distance), hit, distance)
        point = origin + direction * distance[:, None]
        room = 0.5 + 0.35 * np.sin(1.3 * point + np.array([0.0, 2.0, 4.0]))
        room = room.reshape(*image.shape[:2], 3) * 255
        opacity = image[..., 3:] / 255
        result.append(np.rint(image[..., :3] * opacity + room * (1 - opacity)).astype(np.uint8))
    return np.stack(result)


def distance_of(cameras: Cameras) -> float:
    """Mean distance of cameras to the origin."""
    return float(cameras.camera_to_world[:, :3, 3].norm(dim=1).mean())


RELEASED = math.sqrt(2.25)  # distance of the released cameras
