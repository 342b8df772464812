"""Frames: the views of a capture as camera files have them, before the images are opened, whatever the format of the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import Cameras, focal_from_angle
from .lenses import COEFFICIENTS, Lens

MOST_FRAMES = 50_000
"""Frames of one capture, at most."""
LARGEST_SIDE = 1 << 16
"""Pixels of an image along an axis, at most."""

Pair = tuple[float | None, float | None]


@dataclass(frozen=True, eq=False)
class Frame:
    """One view.

    Attributes:
        image: its image as the file names it.
        pose: ``(4, 4)`` float64, camera to world, rigid, OpenGL axes.
        size: width and height that `focal` and `principal` belong to, pixels; None where the file does not say it.
        focal: horizontal and vertical, pixels; None where the file does not say it.
        angles: horizontal and vertical field of view, radians; they count where `focal` says nothing.
        principal: pixels from the corner of the image; None: the middle.
        coefficients: of the lens, in the order of `lenses.COEFFICIENTS`; None: a pinhole camera, if it is not a fisheye.
        fisheye: whether it is an OPENCV_FISHEYE lens.
        mask: file of the object's mask, as the file names it.
    """

    image: str
    pose: Tensor
    size: tuple[int | None, int | None] = (None, None)
    focal: Pair = (None, None)
    angles: Pair = (None, None)
    principal: Pair = (None, None)
    coefficients: tuple[float, ...] | None = None
    fisheye: bool = False
    mask: str | None = None

    def intrinsics(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Focal lengths and principal point ``(fl_x, fl_y, cx, cy)`` in pixels of images of a size. If it is not `size`, they
        were scaled. Raises `ValueError` where nothing says a focal length."""
        own = (self.size[0] or width, self.size[1] or height)
        factors = (width / own[0], height / own[1])
        along_x, along_y = (
            focal if focal is not None else None if angle is None else focal_from_angle(angle, pixels)
            for focal, angle, pixels in zip(self.focal, self.angles, own, strict=True)
        )
        if along_x is None or (self.focal[0] is not None and self.focal[1] is None):
            along_x, along_y = (along_x if along_x is not None else along_y), along_x
        if along_x is None:
            raise ValueError("has no field of view; expected 'camera_angle_x' (radians) or 'fl_x' (pixels)")
        along_y = along_x if along_y is None else along_y
        x, y = (pixels / 2 if at is None else at for at, pixels in zip(self.principal, own, strict=True))
        return along_x * factors[0], along_y * factors[1], x * factors[0], y * factors[1]


def cameras_of(frames: Sequence[Frame], sizes: Sequence[tuple[int, int]]) -> Cameras:
    """Cameras, float64, of frames whose images have the given sizes ``(width, height)``.

    Images smaller than the largest are taken to lie in its upper left corner. Raises what `Cameras` and `Frame.intrinsics` raise.
    """
    width, height = (max(size[axis] for size in sizes) for axis in (0, 1))
    values = torch.tensor(
        [frame.intrinsics(*size) for frame, size in zip(frames, sizes, strict=True)], dtype=torch.float64
    )
    lens = None
    if any(frame.coefficients is not None or frame.fisheye for frame in frames):
        rows = [frame.coefficients or (0.0,) * len(COEFFICIENTS) for frame in frames]
        fisheye = [frame.fisheye for frame in frames]
        lens = Lens(torch.tensor(rows, dtype=torch.float64), torch.tensor(fisheye))
    poses = torch.stack([frame.pose for frame in frames])
    names = tuple(frame.image for frame in frames)
    return Cameras(poses, values[:, :2], values[:, 2:], width, height, names, lens)


def pose_of_opencv(rotation: Tensor, translation: Tensor) -> Tensor:
    """Camera to world with OpenGL axes, ``(4, 4)`` float64, of OpenCV's world to camera ``rotation @ x + translation``, with axes
    x right, y down, z forwards."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation.T * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    pose[:3, 3] = -rotation.T @ translation
    return pose


def shown_name(name: str) -> str:
    """A name of a file as messages show it: on one line, and not longer than that."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:200])


def finite(value: object, name: str) -> float:
    """A number of a file as a float. Raises `ValueError`, naming it, for what is no number or none that floats hold."""
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(number := float(value)):
            return number
    except OverflowError:
        raise ValueError(f"has {name} with {len(str(value)):,} digits; expected a number of ordinary size") from None
    shown = repr(value)
    raise ValueError(f"has {name} = {shown if len(shown) <= 60 else shown[:57] + '...'}; expected a number")
