"""Cameras in numpy files: LLFF's ``poses_bounds.npy`` and IDR's ``cameras.npz`` (DTU, BlendedMVS and their like).

Arrays are read without pickles, and bounded before they are unpacked.

Shapes: V views.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .cameras import rigidity_problem
from .frames import MOST_FRAMES, Frame, pose_of_opencv

MOST_BYTES = 64 << 20


def read_llff(file: Path, names: Sequence[str]) -> list[Frame]:
    """Frames of LLFF: rows ``(V, 17)`` of a 3x5 matrix ``[R | t | height, width, focal]`` with axes down, right and backwards,
    and two depths, which are not used.

    Args:
        file: ``poses_bounds.npy``.
        names: the images, in order: the file does not name them.

    Raises:
        ValueError: another array, or a number of images that differs; the message starts with the file.
    """
    rows = _array(file, lambda: np.load(file, allow_pickle=False, mmap_mode=None))
    if rows.ndim != 2 or rows.shape[1] != 17 or not 1 <= len(rows) <= MOST_FRAMES or rows.dtype.kind != "f":
        raise ValueError(f"{file}: holds {rows.dtype} {list(rows.shape)}; expected LLFF's (views, 17) numbers")
    if len(names) != len(rows):
        raise ValueError(
            f"{file}: has {len(rows)} cameras and its folder {len(names)} images; expected one image for each"
        )
    frames = []
    for row, name in zip(rows.astype(np.float64), names, strict=True):
        matrix = row[:15].reshape(3, 5)
        down, right, backwards, position, (height, width, focal) = matrix.T
        pose = np.eye(4)
        pose[:3] = np.stack([right, -down, backwards, position], axis=1)
        frames.append(_frame(file, name, torch.from_numpy(pose), (width, height), (focal, focal), (None, None)))
    return frames


def read_idr(file: Path, names: Sequence[str], masks: Sequence[str]) -> list[Frame]:
    """Frames of IDR's ``world_mat_N`` (``K [R | t]``) and ``scale_mat_N``, in the world that the latter make, where the object is
    in the unit sphere.

    Args:
        file: ``cameras.npz`` or ``cameras_sphere.npz``.
        names: the images, in order: camera N is that of number N.
        masks: the masks of the images, in the same order, or none.

    Raises:
        ValueError: another file, or fewer cameras than images; the message starts with the file.
    """
    arrays = _array(file, lambda: _members(file))
    frames = []
    if masks and len(masks) != len(names):
        raise ValueError(
            f"{file}: its folder has {len(names)} images and {len(masks)} masks; expected one mask for each"
        )
    for number, name in enumerate(names):
        world, scale = (arrays.get(f"{kind}_mat_{number}") for kind in ("world", "scale"))
        if world is None or world.shape not in ((4, 4), (3, 4)) or (scale is not None and scale.shape != (4, 4)):
            raise ValueError(f"{file}: has no 4x4 world_mat_{number}, for {name}; expected one for each image")
        projection = world[:3].astype(np.float64) @ (np.eye(4) if scale is None else scale.astype(np.float64))
        focal, principal, pose = _decomposed(file, name, projection)
        mask = masks[number] if masks else None
        frames.append(_frame(file, name, pose, (None, None), focal, principal, mask))
    if not frames:
        raise ValueError(f"{file}: has no images beside it; expected them in 'image' or 'images'")
    return frames


def _decomposed(file: Path, name: str, projection: NDArray[np.float64]) -> tuple[Any, Any, torch.Tensor]:
    """``K [R | t]`` up to a factor, with positive focal lengths: an RQ decomposition, skew left out."""
    if not np.isfinite(projection).all() or abs(np.linalg.det(projection[:, :3])) < 1e-30:
        raise ValueError(f"{file}: the matrix of {name} projects nothing; expected K [R | t]")
    flip = np.eye(3)[::-1]
    q, r = np.linalg.qr((flip @ projection[:, :3]).T)
    intrinsics, rotation = flip @ r.T @ flip, flip @ q.T
    signs = np.diag(np.sign(np.diag(intrinsics)))
    intrinsics, rotation = intrinsics @ signs, signs @ rotation
    translation = np.linalg.solve(intrinsics, projection[:, 3])
    if np.linalg.det(rotation) < 0:  # the whole matrix with the other sign is the same camera
        rotation, translation = -rotation, -translation
    intrinsics = intrinsics / intrinsics[2, 2]
    pose = pose_of_opencv(torch.from_numpy(rotation), torch.from_numpy(translation))
    return (float(intrinsics[0, 0]), float(intrinsics[1, 1])), (float(intrinsics[0, 2]), float(intrinsics[1, 2])), pose


def _frame(
    file: Path, name: str, pose: torch.Tensor, size: Any, focal: Any, principal: Any, mask: str | None = None
) -> Frame:
    problem = rigidity_problem(pose)
    if problem is None and not (np.isfinite(focal).all() and min(focal) > 0):
        problem = f"its focal lengths are {focal}; expected positive numbers of pixels"
    if problem is None and size[0] is not None and not (1 <= size[0] < 1 << 16 and 1 <= size[1] < 1 << 16):
        problem = f"its images are {size[0]} x {size[1]} pixels; expected sizes from 1 to {1 << 16}"
    if problem:
        raise ValueError(f"{file}: the camera of {name} cannot be used: {problem}")
    whole = (None, None) if size[0] is None else (int(size[0]), int(size[1]))
    return Frame(
        image=name, pose=pose, size=whole, focal=(float(focal[0]), float(focal[1])), principal=principal, mask=mask
    )


def _members(file: Path) -> dict[str, NDArray]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > MOST_BYTES or len(members) > 8 * MOST_FRAMES:
            raise ValueError(
                f"unpacks to {total:,} bytes in {len(members):,} parts; at most {MOST_BYTES:,} bytes are taken"
            )
    with np.load(file, allow_pickle=False) as content:
        wanted = [name for name in content.files if re.fullmatch(r"(world|scale)_mat_\d{1,6}", name)]
        return {name: content[name] for name in wanted}


def _array(file: Path, load: Any) -> Any:
    """What `load` reads, errors named after the file."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"has {file.stat().st_size >> 20:,} MiB; at most {MOST_BYTES >> 20} MiB are taken")
        return load()
    except OSError as error:
        raise OSError(f"{file}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a broken archive or header leads numpy to
        raise ValueError(
            f"{file}: is no file of cameras, or cut short ({str(error).splitlines()[0][:160] if str(error) else ''})"
        ) from error
