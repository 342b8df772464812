"""Camera files: `transforms.json` of Blender / NeRF-synthetic (the released data's kind, docs/released_format.md#camera-files),
instant-ngp and nerfstudio."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import StrPath, brief, write_json
from .cameras import RELEASED_SIZE, Cameras, rigidity_problem
from .frames import LARGEST_SIDE, MOST_FRAMES, Frame, cameras_of, finite, shown_name
from .lenses import COEFFICIENTS

CAMERA_NAMES = (
    "transforms_train_compressed.json",
    "transforms_train.json",
    "transforms.json",
)
"""What a camera file in a directory may be called, in the order in which they are looked for."""

_MOST_BYTES = 1 << 28  # of a camera file: MOST_FRAMES frames take a tenth of it
_LARGEST_COEFFICIENT = 1e4
_FARTHEST = 1e15  # positions whose differences float64 still holds
_MODELS = {  # nerfstudio's camera_model, and what COLMAP calls the models that it comes from: whether it is a fisheye
    "": False,
    "PERSPECTIVE": False,
    "PINHOLE": False,
    "SIMPLE_PINHOLE": False,
    "SIMPLE_RADIAL": False,
    "RADIAL": False,
    "OPENCV": False,
    "OPENCV_FISHEYE": True,
    "FISHEYE": True,
}


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
        path: a camera file or a directory with one, see `read_frames`.
        width, height: size of the images in pixels where the file does not say it; 224 if left out.

    Returns:
        float32 cameras on the CPU, in the order of the file, with `image_names` as the file has them.

    Raises:
        FileNotFoundError: no camera file there.
        ValueError: what `read_frames` refuses, or frames of several sizes; the message starts with the file.
    """
    file = camera_file(path)
    frames = read_frames(file)
    sizes = [
        (frame.size[0] or width or RELEASED_SIZE, frame.size[1] or height or width or RELEASED_SIZE) for frame in frames
    ]
    for number, size in enumerate(sizes):
        if size != sizes[0]:
            raise ValueError(
                f"{file}: frame {number} ({shown_name(frames[number].image)}) has images of {size[0]}x{size[1]} pixels, "
                f"the first frame {sizes[0][0]}x{sizes[0][1]}; expected one size for all"
            )
    try:
        return cameras_of(frames, sizes).to(torch.float32)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_frames(file: Path) -> list[Frame]:
    """Read the frames of a `transforms.json`.

    Intrinsics are `camera_angle_x` and `_y` (radians), `x_fov` and `y_fov` (degrees) or `fl_x`, `fl_y`, `cx`, `cy`, `w`, `h` in
    pixels; the lens is `camera_model` (nerfstudio) or `is_fisheye` (instant-ngp) with `k1` to `k4`, `p1`, `p2`; all of them for
    all frames or frame by frame. Each frame has a 4x4 camera-to-world `transform_matrix` with OpenGL axes. `mask_path` names a
    mask of the object. Other keys are ignored.

    Raises:
        OSError: the file cannot be read.
        ValueError: not JSON, no frames, a frame without matrix or with one that is not rigid, no field of view, another kind of
            lens; the message starts with the file.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(
                f"{file}: has {file.stat().st_size >> 20} MiB; expected a camera file, under {_MOST_BYTES >> 20} MiB"
            )
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise OSError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not a text file; expected JSON with cameras") from error
    try:
        return _parse_frames(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: is not JSON ({error}); expected cameras like transforms.json") from error
    except RecursionError as error:
        raise ValueError(f"{file}: is nested too deeply; expected cameras like transforms.json") from error
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError(
                f"{file}: holds a number of thousands of digits; expected cameras like transforms.json"
            ) from error
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
        if cameras.lens is not None:
            frame["camera_model"] = "OPENCV_FISHEYE" if bool(cameras.lens.fisheye[view]) else "OPENCV"
            frame |= dict(zip(COEFFICIENTS, cameras.lens.coefficients[view].tolist(), strict=True))
        frames.append(frame)
    write_json(content | {"frames": frames}, path)


def _parse_frames(content: Any) -> list[Frame]:
    if not isinstance(content, Mapping):
        raise ValueError(f"holds a {type(content).__name__}; expected an object with 'frames'")
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        found = "an empty list" if frames == [] else "nothing" if frames is None else f"a {type(frames).__name__}"
        raise ValueError(f"'frames' holds {found}; expected a list of cameras")
    if len(frames) > MOST_FRAMES:
        raise ValueError(f"'frames' holds {len(frames):,} cameras; at most {MOST_FRAMES:,} are taken")
    shared = {key: value for key, value in content.items() if key != "frames"}
    parsed = []
    for number, frame in enumerate(frames):
        if not isinstance(frame, Mapping):
            raise ValueError(f"frame {number} is a {type(frame).__name__}; expected an object with 'transform_matrix'")
        name = frame.get("file_path")
        label = f"frame {number}" + (f" ({shown_name(name)})" if isinstance(name, str) else "")
        try:
            parsed.append(_parse_frame({**shared, **frame}, name if isinstance(name, str) else f"{number:02d}"))
        except ValueError as error:
            raise ValueError(f"{label} {error}") from error
    return parsed


def _parse_frame(settings: Mapping[str, Any], name: str) -> Frame:
    mask = settings.get("mask_path")
    coefficients, fisheye = _parse_lens(settings)
    frame = Frame(
        image=name,
        pose=_parse_pose(settings),
        size=(_pixels(settings, "w"), _pixels(settings, "h")),
        focal=(_focal(settings, "fl_x"), _focal(settings, "fl_y")),
        angles=(_angle(settings, "camera_angle_x", "x_fov"), _angle(settings, "camera_angle_y", "y_fov")),
        principal=(_number(settings, "cx"), _number(settings, "cy")),
        coefficients=coefficients,
        fisheye=fisheye,
        mask=mask if isinstance(mask, str) else None,
    )
    frame.intrinsics(1, 1)  # says what is missing
    return frame


def _parse_pose(frame: Mapping[str, Any]) -> torch.Tensor:
    if "transform_matrix" not in frame:
        raise ValueError("has no 'transform_matrix'; expected the 4x4 camera-to-world matrix of each view")
    matrix = frame["transform_matrix"]
    rows = matrix if isinstance(matrix, list) else []
    if len(rows) == 3:  # some exporters leave the last row out
        rows = [*rows, [0, 0, 0, 1]]
    if len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise ValueError("has a 'transform_matrix' that is not 4x4; expected four rows of four numbers")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for row in rows for value in row):
        raise ValueError("has a 'transform_matrix' with entries that are no numbers; expected 4x4 numbers")
    try:
        pose = torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
    except OverflowError:
        raise ValueError("has a 'transform_matrix' with entries of hundreds of digits; expected 4x4 numbers") from None
    if problem := rigidity_problem(pose):
        raise ValueError(f"cannot be used: {problem}")
    if float(pose.abs().max()) > _FARTHEST:
        raise ValueError(f"stands {float(pose.abs().max()):.3g} from the origin; expected at most {_FARTHEST:.0e}")
    return pose


def _parse_lens(settings: Mapping[str, Any]) -> tuple[tuple[float, ...] | None, bool]:
    """Coefficients, None if all are zero, and whether the lens is a fisheye."""
    model = settings.get("camera_model") or ""
    if not isinstance(model, str) or model.upper() not in _MODELS:
        known = ", ".join(name for name in _MODELS if name)
        raise ValueError(f"has camera_model = {brief(model)}; expected one of {known}: undistort the images first")
    values = tuple(_number(settings, key) or 0.0 for key in COEFFICIENTS)
    if max(map(abs, values)) > _LARGEST_COEFFICIENT:
        raise ValueError(f"has a lens with coefficients up to {max(map(abs, values)):.3g}; expected numbers around 0.1")
    fisheye = _MODELS[model.upper()] or settings.get("is_fisheye") is True
    return (values if any(values) else None), fisheye


def _pixels(settings: Mapping[str, Any], key: str) -> int | None:
    value = _number(settings, key)
    if value is not None and not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"has {key} = {value:.6g} pixels; expected sizes from 1 to {LARGEST_SIDE}")
    return None if value is None else int(value)


def _focal(settings: Mapping[str, Any], key: str) -> float | None:
    value = _number(settings, key)
    if value is not None and not 0 < value < 1e9:
        raise ValueError(f"has a focal length {key} = {value:.6g}; expected a positive number of pixels")
    return value


def _angle(settings: Mapping[str, Any], radians: str, degrees: str) -> float | None:
    value, in_degrees = _number(settings, radians), _number(settings, degrees)
    if value is None and in_degrees is not None:
        value, radians = math.radians(in_degrees), degrees
    if value is not None and not 0 < value < math.pi:
        raise ValueError(f"has {radians} = {value:.6g} radians; expected more than 0 and less than pi")
    return value


def _number(settings: Mapping[str, Any], key: str) -> float | None:
    value = settings.get(key)
    return None if value is None else finite(value, key)
