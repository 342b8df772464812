"""Layouts of capture folders: which files hold the cameras, and where their images and masks are.

Names in camera files are confined to the folder: they may be absolute, but what they lead to must lie in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from torch import Tensor

from ..rendering.array_cameras import read_idr, read_llff
from ..rendering.camera_files import CAMERA_NAMES, camera_file, read_frames
from ..rendering.colmap import colmap_model, read_colmap
from ..rendering.frames import Frame

_IMAGE_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".webp")
_LISTED_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_IMAGE_FOLDERS = ("", "images", "train", "image")  # "train": the released files name the renderer's folders instead
_SMALLER = ("_2", "_4", "_8")  # nerfstudio's folders of images made smaller, beside "images"


@dataclass(frozen=True, eq=False)
class Capture:
    """What a layout says.

    Attributes:
        file: the camera file, or the folder that stands for one.
        frames: the views.
        held_out: views to measure on, where the layout names some.
        points: ``(P, 3)`` points of surfaces that were found with the cameras.
    """

    file: Path
    frames: Sequence[Frame]
    held_out: Sequence[Frame] = ()
    points: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Layout:
    """A kind of capture folder: `find` gives its camera file in a directory, or None; `read` reads it."""

    name: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path], Capture]


def _find_transforms(directory: Path) -> Path | None:
    try:
        return camera_file(directory)
    except FileNotFoundError:
        return None


def _read_transforms(file: Path) -> Capture:
    held_out: Sequence[Frame] = ()
    for name in ("test", "val"):
        beside = file.parent / f"transforms_{name}.json"
        if beside.is_file() and beside != file:
            held_out = read_frames(beside)
            break
    return Capture(file, read_frames(file), held_out)


def _read_colmap(folder: Path) -> Capture:
    frames, points = read_colmap(folder)
    depth = {"sparse": 1, "0": 2}.get(folder.name, 0) if folder.parent.name != "colmap" else 2
    directory = folder.parents[depth - 1] if depth else folder
    masks = directory / "masks"
    if masks.is_dir():  # COLMAP's own name for them: that of the image, and .png
        named = [(frame, masks / f"{frame.image}.png") for frame in frames]
        frames = [replace(frame, mask=f"masks/{frame.image}.png") if file.is_file() else frame for frame, file in named]
    return Capture(folder, frames, points=points)


def _find_file(*names: str) -> Callable[[Path], Path | None]:
    def find(directory: Path) -> Path | None:
        return next((directory / name for name in names if (directory / name).is_file()), None)

    return find


def _read_llff(file: Path) -> Capture:
    names = _images_in(file.parent, "images", "images_2", "images_4", "images_8")
    return Capture(file, read_llff(file, names))


def _read_idr(file: Path) -> Capture:
    names = _images_in(file.parent, "image", "images", "rgb")
    return Capture(file, read_idr(file, names, _images_in(file.parent, "mask", "masks")))


def _images_in(directory: Path, *folders: str) -> list[str]:
    """Names of the images in the first of some folders that has any, relative to `directory`, in order."""
    for folder in folders:
        if (directory / folder).is_dir():
            files = sorted((directory / folder).iterdir())
            if names := [f"{folder}/{file.name}" for file in files if file.suffix.lower() in _LISTED_SUFFIXES]:
                return names
    return []


LAYOUTS: list[Layout] = [
    Layout("transforms.json", _find_transforms, _read_transforms),
    Layout("sparse/0 (COLMAP)", colmap_model, _read_colmap),
    Layout("poses_bounds.npy (LLFF)", _find_file("poses_bounds.npy"), _read_llff),
    Layout("cameras.npz (IDR)", _find_file("cameras.npz", "cameras_sphere.npz"), _read_idr),
]
"""In the order in which they are asked."""


def find_layout(directory: Path) -> tuple[Layout, Path] | None:
    """The layout that a directory has, and its camera file."""
    for layout in LAYOUTS:
        if (file := layout.find(directory)) is not None:
            return layout, file
    return None


def read_layout(directory: Path) -> Capture:
    """The capture in a directory.

    Raises:
        FileNotFoundError: no camera file.
        ValueError: what the layout's reader refuses; the message starts with the file.
    """
    found = find_layout(directory)
    if found is None:
        names = ", ".join(dict.fromkeys([*CAMERA_NAMES, *(layout.name for layout in LAYOUTS[1:])]))
        raise FileNotFoundError(f"{directory}: is a directory without a camera file; expected one of {names}")
    layout, file = found
    return layout.read(file)


def find_image(directory: Path, name: str) -> Path | None:
    """The file in a capture's directory that a camera file means by a name, or None if it is missing.

    The name may lack its extension, have backslashes, or be a path of another machine whose last part stands in the directory,
    in ``images`` or in ``train``. Where ``images`` lacks it, nerfstudio's smaller copies are taken (``images_2`` to ``_8``).

    Raises:
        ValueError: the name leads out of the directory, or is no path.
    """
    root = directory.resolve()
    name = name.replace("\\", "/")
    if re.match(r"^\w{2,}:/?/", name) or "\0" in name or len(name) > 4096:
        raise ValueError(f"{directory}: its camera file names the image {name[:200]!r}; expected a file in the folder")
    given = Path(name)
    absolute = given.is_absolute() or bool(PureWindowsPath(name).drive)
    candidates = [given if absolute else root / given]
    if not absolute:
        candidates += [root / folder / given for folder in _IMAGE_FOLDERS if folder]
    candidates += [root / folder / given.name for folder in _IMAGE_FOLDERS]
    if not absolute:
        first, *rest = given.parts or ("",)
        candidates += [root / (first + smaller) / Path(*rest) for smaller in _SMALLER if rest]
    outside = False
    for candidate in candidates:
        for suffix in _IMAGE_SUFFIXES:
            file = candidate if not suffix else candidate.with_name(candidate.name + suffix)
            try:
                resolved = file.resolve()
                if not resolved.is_relative_to(root):
                    outside |= file is candidate
                elif resolved.is_file():
                    return resolved
            except OSError:  # names too long for the disk
                continue
    if outside and not (absolute and not given.exists()):
        raise ValueError(
            f"{directory}: its camera file names the image {name[:200]!r}, which lies outside the folder; "
            "expected files in the folder"
        )
    return None
