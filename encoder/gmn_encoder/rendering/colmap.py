"""COLMAP's sparse models, binary and text: cameras and poses to frames, and the points that were found with them.

Cameras are OpenCV's (x right, y down, z forwards), poses world to camera, the centre of a pixel is at a half, as ours. Files of
rigs and frames that newer versions write beside them are not needed: images keep their own poses. Everything is bounded by the
bytes that are there before anything is made.

Source: COLMAP's documentation of its output format. Shapes: P points.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .cameras import rigidity_problem
from .frames import LARGEST_SIDE, MOST_FRAMES, Frame, pose_of_opencv, shown_name

T = TypeVar("T")

MOST_BYTES = 1 << 31
MOST_POINTS = 200_000
"""Points that are kept, evenly, where there are more."""

_MODELS = {  # number: name, how many parameters
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
_COUNTS = dict(_MODELS.values())


@dataclass(frozen=True)
class _Camera:
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


def colmap_model(directory: Path) -> Path | None:
    """The folder of a sparse model in a capture's directory: itself, ``sparse/0``, ``sparse`` or ``colmap/sparse/0``."""
    for name in ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "."):
        folder = directory / name
        for kind in (".bin", ".txt"):
            if all((folder / f"{stem}{kind}").is_file() for stem in ("cameras", "images")):
                return folder
    return None


def read_colmap(folder: Path) -> tuple[list[Frame], Tensor | None]:
    """Frames, in the order of their image names, and points ``(P, 3)`` float32 where the model has them.

    Raises:
        ValueError: a file that is cut short or no model, a camera model that is not read here; the message starts with the file.
    """
    binary = (folder / "images.bin").is_file() and (folder / "cameras.bin").is_file()
    kind = ".bin" if binary else ".txt"
    readers = (
        (_binary_cameras, _binary_images, _binary_points) if binary else (_text_cameras, _text_images, _text_points)
    )
    cameras = _read(folder / f"cameras{kind}", readers[0])
    frames = _read(folder / f"images{kind}", lambda data: _frames(readers[1](data), cameras))
    points = folder / f"points3D{kind}"
    return frames, _read(points, readers[2]) if points.is_file() else None


def _read(file: Path, parse: Callable[[bytes], T]) -> T:
    """What a parser makes of a file's bytes, errors named after the file."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"has {file.stat().st_size >> 20:,} MiB; at most {MOST_BYTES >> 20:,} MiB are taken")
        return parse(file.read_bytes())
    except OSError as error:
        raise OSError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
        raise ValueError(f"{file}: is no file of a COLMAP model, or cut short ({str(error)[:120]})") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


Image = tuple[tuple[float, ...], int, str]
"""Quaternion and translation, the camera's number, the image's name."""


def _frames(images: Iterator[Image], cameras: dict[int, _Camera]) -> list[Frame]:
    frames: list[Frame] = []
    for values, camera, name in images:
        if camera not in cameras:
            raise ValueError(f"image {shown_name(name)} has camera {camera}, which cameras lack; the model is broken")
        if len(frames) >= MOST_FRAMES:
            raise ValueError(f"has more than {MOST_FRAMES:,} images; at most so many are taken")
        try:
            frames.append(_frame(values, cameras[camera], name))
        except ValueError as error:
            raise ValueError(f"image {shown_name(name)} {error}") from error
    if not frames:
        raise ValueError("holds no images with poses; expected a finished reconstruction")
    return sorted(frames, key=lambda frame: frame.image)


def _frame(values: tuple[float, ...], camera: _Camera, name: str) -> Frame:
    numbers = torch.tensor(values, dtype=torch.float64)
    w, x, y, z = (numbers[:4] / numbers[:4].norm().clamp(min=1e-12)).tolist()
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    pose = pose_of_opencv(rotation, numbers[4:7])
    if problem := rigidity_problem(pose):
        raise ValueError(f"cannot be used: {problem}")
    focal, principal, coefficients, fisheye = _intrinsics(camera)
    return Frame(
        image=name,
        pose=pose,
        size=(camera.width, camera.height),
        focal=focal,
        principal=principal,
        coefficients=coefficients if any(coefficients) else None,
        fisheye=fisheye,
    )


def _intrinsics(camera: _Camera) -> tuple[tuple[float, float], tuple[float, float], tuple[float, ...], bool]:
    """Focal lengths, principal point, coefficients k1 k2 k3 k4 p1 p2, whether it is a fisheye."""
    model, p = camera.model, camera.parameters
    if not all(np.isfinite(p)) or not (0 < camera.width <= LARGEST_SIDE and 0 < camera.height <= LARGEST_SIDE):
        raise ValueError(
            f"has a camera of {camera.width}x{camera.height} pixels with parameters {p[:4]}; expected finite ones"
        )
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"):
        focal, principal, rest = (p[0], p[0]), (p[1], p[2]), p[3:]
    else:
        focal, principal, rest = (p[0], p[1]), (p[2], p[3]), p[4:]
    if not min(focal) > 0:
        raise ValueError(f"has focal lengths {focal}; expected positive numbers of pixels")
    if model in ("SIMPLE_PINHOLE", "PINHOLE"):
        return focal, principal, (0.0,) * 6, False
    if model in ("SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"):
        radial = (rest[0], rest[1] if len(rest) > 1 else 0.0, 0.0, 0.0)
        return focal, principal, (*radial, 0.0, 0.0), model.endswith("FISHEYE")
    if model == "OPENCV":
        return focal, principal, (*rest[:2], 0.0, 0.0, *rest[2:4]), False
    if model == "OPENCV_FISHEYE":
        return focal, principal, (*rest[:4], 0.0, 0.0), True
    if model == "FULL_OPENCV" and not any(rest[5:8]):
        return focal, principal, (rest[0], rest[1], rest[4], 0.0, rest[2], rest[3]), False
    raise ValueError(f"has a camera of model {model}, which is not read here; undistort the images with COLMAP first")


def _binary_cameras(data: bytes) -> dict[int, _Camera]:
    (count,) = struct.unpack_from("<Q", data)
    if count * 24 > len(data):
        raise ValueError(f"claims {count:,} cameras in {len(data):,} bytes; it is cut short, or no COLMAP model")
    cameras, at = {}, 8
    for _ in range(count):
        number, model, width, height = struct.unpack_from("<iiQQ", data, at)
        if model not in _MODELS:
            raise ValueError(
                f"has a camera of model number {model}, which is not read here; undistort the images with COLMAP first"
            )
        name, length = _MODELS[model]
        cameras[number] = _Camera(name, width, height, struct.unpack_from(f"<{length}d", data, at + 24))
        at += 24 + 8 * length
    return cameras


def _binary_images(data: bytes) -> Iterator[Image]:
    (count,) = struct.unpack_from("<Q", data)
    if count * 73 > len(data):
        raise ValueError(f"claims {count:,} images in {len(data):,} bytes; it is cut short, or no COLMAP model")
    at = 8
    for _ in range(count):
        values = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode()
        (points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * points
        if at > len(data):
            raise ValueError(f"is cut short: image {shown_name(name)} claims {points:,} points")
        yield values[1:8], values[8], name


def _binary_points(data: bytes) -> Tensor:
    (count,) = struct.unpack_from("<Q", data)
    if count * 51 > len(data):
        raise ValueError(f"claims {count:,} points in {len(data):,} bytes; it is cut short, or no COLMAP model")
    points, at, every = [], 8, max(1, count // MOST_POINTS)
    for number in range(count):
        if number % every == 0:
            points.append(struct.unpack_from("<3d", data, at + 8))
        (track,) = struct.unpack_from("<Q", data, at + 43)
        at += 51 + 8 * track
        if at > len(data):
            raise ValueError(f"is cut short at point {number:,} of {count:,}")
    return _finite(points)


def _lines(data: bytes) -> list[str]:
    return [line for line in data.decode().splitlines() if not line.startswith("#")]


def _text_cameras(data: bytes) -> dict[int, _Camera]:
    cameras = {}
    for line in _lines(data):
        if not (words := line.split()):
            continue
        if len(words) < 4 or len(words) - 4 != _COUNTS.get(words[1], -1):
            raise ValueError(
                f"has the camera {line[:100]!r}; expected CAMERA_ID MODEL WIDTH HEIGHT and the model's parameters"
            )
        cameras[_integer(words[0])] = _Camera(
            words[1], _integer(words[2]), _integer(words[3]), tuple(_number(word) for word in words[4:])
        )
    return cameras


def _text_images(data: bytes) -> Iterator[Image]:
    lines = _lines(data)
    while lines and not lines[-1].strip():
        lines.pop()
    for line in lines[::2]:  # every other one has the image's points, and may be empty
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise ValueError(f"has the image {line[:100]!r}; expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
        yield tuple(_number(word) for word in words[1:8]), _integer(words[8]), words[9]


def _text_points(data: bytes) -> Tensor:
    lines = [line for line in _lines(data) if line.strip()]
    every = max(1, len(lines) // MOST_POINTS)
    points = []
    for line in lines[::every]:
        words = line.split(maxsplit=4)
        if len(words) < 4:
            raise ValueError(f"has the point {line[:100]!r}; expected POINT3D_ID X Y Z and more")
        points.append(tuple(_number(word) for word in words[1:4]))
    return _finite(points)


def _finite(points: list[tuple[float, ...]]) -> Tensor:
    values = np.array(points, np.float64).reshape(-1, 3)
    values = values[np.isfinite(values).all(axis=1) & (np.abs(values) < 1e15).all(axis=1)]
    return torch.from_numpy(values).float()


def _integer(word: str) -> int:
    if not word.removeprefix("-").isdecimal() or len(word) > 18:
        raise ValueError(f"has {word[:40]!r} where a whole number is expected")
    return int(word)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"has {word[:40]!r} where a number is expected") from None
