"""Camera files: Blender / NeRF-synthetic `transforms.json` (the released data's kind, docs/released_format.md#camera-files) and
nerfstudio's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import StrPath, write_json
from .cameras import RELEASED_SIZE, Cameras, focal_from_angle, rigidity_problem

CAMERA_NAMES = (
    "transforms_train_compressed.json",
    "transforms_train.json",
    "transforms.json",
)
"""What a camera file in a directory may be called, in the order in which they are looked for."""

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def camera_file(path: StrPath) -> Path:
    """The camera file that a path of the user's means: itself, or the one in the directory."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory; expected a camera file such as {CAMERA_NAMES[-1]}")
    if not path.is_dir():
        return path
    for name in CAMERA_NAMES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"{path}: is a directory without a camera file; expected one of {', '.join(CAMERA_NAMES)}")


def read_cameras(path: StrPath, *, width: int | None = None, height: int | None = None) -> Cameras:
    """Read the cameras of a posed image set.

    Args:
        path: a camera file or a directory with one. Intrinsics are `camera_angle_x` (radians) or nerfstudio's `fl_x`, `fl_y`,
            `cx`, `cy`, `w`, `h` in pixels, for all frames or frame by frame; each frame has a 4x4 camera-to-world
            `transform_matrix` with OpenGL axes. Other keys are ignored.
        width, height: size of the images in pixels where the file does not say it; 224 if left out.

    Returns:
        float32 cameras on the CPU, in the order of the file, with `image_names` as the file has them.

    Raises:
        FileNotFoundError: no camera file there.
        ValueError: not JSON, no frames, a frame without matrix or with one that is not rigid, no field of view, distorted
            lenses, frames of several sizes; the message starts with the file.
    """
    file = camera_file(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise OSError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not a text file; expected JSON with cameras") from error
    try:
        return _parse_cameras(json.loads(text), width, height)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: is not JSON ({error}); expected cameras like transforms.json") from error
    except RecursionError as error:
        raise ValueError(f"{file}: is nested too deeply; expected cameras like transforms.json") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def write_cameras(cameras: Cameras, path: StrPath) -> None:
    """Write cameras as the released data has them: `camera_angle_x` and, per frame, `file_path` and `transform_matrix`.

    Sizes and intrinsics that those keys cannot express are added under nerfstudio's names, so that `read_cameras` gives the
    same cameras back. Frames without image names are called ``train/00``, ``train/01`` ... Atomic.
    """
    focal, principal = cameras.focal.double().cpu(), cameras.principal_point.double().cpu()
    angles = 2 * torch.atan(0.5 * cameras.width / focal[:, 0])
    content: dict[str, Any] = {"camera_angle_x": float(angles[0]) if len(cameras) else 0.0}
    if (cameras.width, cameras.height) != (RELEASED_SIZE, RELEASED_SIZE):
        content |= {"w": cameras.width, "h": cameras.height}
    centre = torch.tensor([cameras.width / 2, cameras.height / 2], dtype=torch.float64)
    plain = bool((focal == focal[:1, :1]).all()) and bool((principal == centre).all())
    frames = []
    for view in range(len(cameras)):
        name = cameras.image_names[view] if cameras.image_names else f"train/{view:02d}"
        frame = {"file_path": name, "transform_matrix": cameras.camera_to_world[view].double().tolist()}
        if not plain:
            values = [*focal[view].tolist(), *principal[view].tolist()]
            frame |= dict(zip(("fl_x", "fl_y", "cx", "cy"), values, strict=True))
        frames.append(frame)
    write_json(content | {"frames": frames}, path)


def _parse_cameras(content: Any, width: int | None, height: int | None) -> Cameras:
    if not isinstance(content, Mapping):
        raise ValueError(f"holds a {type(content).__name__}; expected an object with 'frames'")
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        found = "an empty list" if frames == [] else "nothing" if frames is None else f"a {type(frames).__name__}"
        raise ValueError(f"'frames' holds {found}; expected a list of cameras")
    poses, intrinsics, sizes, names = [], [], [], []
    for number, frame in enumerate(frames):
        if not isinstance(frame, Mapping):
            raise ValueError(f"frame {number} is a {type(frame).__name__}; expected an object with 'transform_matrix'")
        name = frame.get("file_path")
        label = f"frame {number}" + (f" ({name})" if isinstance(name, str) else "")
        try:
            settings = {**content, **frame}
            poses.append(_parse_pose(frame))
            size, values = _parse_intrinsics(settings, width, height)
        except ValueError as error:
            raise ValueError(f"{label} {error}") from error
        sizes.append(size)
        intrinsics.append(values)
        names.append(name if isinstance(name, str) else f"{number:02d}")
        if size != sizes[0]:
            raise ValueError(
                f"{label} has images of {size[0]}x{size[1]} pixels, the first frame {sizes[0][0]}x{sizes[0][1]}; "
                "expected one size for all"
            )
    focal, principal = torch.tensor(intrinsics, dtype=torch.float32).split(2, dim=1)
    return Cameras(torch.stack(poses), focal, principal, *sizes[0], tuple(names))


def _parse_pose(frame: Mapping[str, Any]) -> torch.Tensor:
    if "transform_matrix" not in frame:
        raise ValueError("has no 'transform_matrix'; expected the 4x4 camera-to-world matrix of each view")
    matrix = frame["transform_matrix"]
    rows = matrix if isinstance(matrix, list) else []
    numbers = [value for row in rows if isinstance(row, list) for value in row]
    if len(rows) == 3 and len(numbers) == 12:  # some exporters leave the last row out
        rows, numbers = [*rows, [0, 0, 0, 1]], [*numbers, 0, 0, 0, 1]
    if len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise ValueError("has a 'transform_matrix' that is not 4x4; expected four rows of four numbers")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
        raise ValueError("has a 'transform_matrix' with entries that are no numbers; expected 4x4 numbers")
    pose = torch.tensor(rows, dtype=torch.float64).float()
    if problem := rigidity_problem(pose):
        raise ValueError(f"cannot be used: {problem}")
    return pose


def _parse_intrinsics(
    settings: Mapping[str, Any], width: int | None, height: int | None
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """``(width, height)`` and ``(fl_x, fl_y, cx, cy)`` of one frame."""
    if distorted := [key for key in _DISTORTION if abs(_number(settings, key, 0.0)) > 1e-6]:
        raise ValueError(
            f"has a distorted lens ({distorted[0]} = {settings[distorted[0]]}); expected pinhole images, undistort them first"
        )
    w = int(_number(settings, "w", width or RELEASED_SIZE))
    h = int(_number(settings, "h", height or width or RELEASED_SIZE))
    if not (0 < w <= 1 << 16 and 0 < h <= 1 << 16):
        raise ValueError(f"has images of {w}x{h} pixels; expected sizes from 1 to {1 << 16}")
    if "fl_x" in settings:
        fl_x = _number(settings, "fl_x", 0.0)
    elif "camera_angle_x" in settings:
        fl_x = _focal(settings, "camera_angle_x", w)
    else:
        raise ValueError("has no field of view; expected 'camera_angle_x' (radians) or 'fl_x' (pixels)")
    if "fl_y" in settings:
        fl_y = _number(settings, "fl_y", 0.0)
    elif "camera_angle_y" in settings and "fl_x" not in settings:
        fl_y = _focal(settings, "camera_angle_y", h)
    else:
        fl_y = fl_x
    if not (fl_x > 0 and fl_y > 0):
        raise ValueError(f"has focal lengths {fl_x} and {fl_y}; expected positive numbers of pixels")
    return (w, h), (fl_x, fl_y, _number(settings, "cx", w / 2), _number(settings, "cy", h / 2))


def _focal(settings: Mapping[str, Any], key: str, pixels: int) -> float:
    angle = _number(settings, key, 0.0)
    if not 0 < angle < math.pi:
        raise ValueError(f"has {key} = {angle}; expected radians between 0 and pi")
    return focal_from_angle(angle, pixels)


def _number(settings: Mapping[str, Any], key: str, default: float) -> float:
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"has {key} = {value!r}; expected a number")
    return float(value)
