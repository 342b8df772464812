"""Captures: folders of posed images of any kind, to posed images of one object in the world box.

Cameras come from any of the layouts (`layouts`), lenses stay as they are, images are decoded once and made smaller only where
they are larger than a fit uses. What is the object is told by opacity, by masks, or by a background of one colour; where nothing
tells it, all that is in the box is fitted, and what is around it is learnt besides (`surroundings`).

Shapes: V views.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..files import StrPath
from ..rendering.cameras import Cameras
from ..rendering.frames import Frame, cameras_of, shown_name
from .extent import SEEN_BY, TOLERANCE, found_placement, placed, sees_box
from .layouts import find_image, read_layout
from .pictures import Picture, read_mask
from .placement import PlacementRequest
from .posed_images import PosedImages
from .quality import require_object

HELD_OUT_EVERY = 9
"""Every so many-th view is kept to measure on (the four of 36), where the capture names none for it."""
MOST_HELD_OUT = 8
"""Views to measure on, at most, spread evenly over those there are."""
LARGEST_SIDE = 1024
"""Pixels of an image along an axis that fits use, at most."""
MOST_PIXELS = 64_000_000
"""Pixels of all images of a capture that fits use, at most: 100 views of 800 x 800."""

_TOLERANCE = 6  # of 255: how far from the background's colour is still background
_LOSSY_TOLERANCE = 14  # in JPEG
_ONE_COLOUR = 0.95  # share of the pixels at the images' borders that makes their colour the background
_LEAST_SIDE = 8


@dataclass(frozen=True, eq=False)
class _View:
    """A frame and the files that belong to it, before they are decoded."""

    frame: Frame
    picture: Picture
    turn: bool
    opacity: Path | None
    ignored: Path | None

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.picture.width, self.picture.height
        return (height, width) if self.turn else (width, height)


@dataclass(frozen=True, eq=False)
class _Views:
    """Decoded views: `images` ``(V, height, width, 4)``, `known` ``(V, height, width)`` or None, cameras as in the file."""

    images: Tensor
    known: Tensor | None
    cameras: Cameras

    def __getitem__(self, index: list[int]) -> _Views:
        return _Views(self.images[index], None if self.known is None else self.known[index], self.cameras[index])


def read_capture(
    path: StrPath,
    class_id: str,
    nerf_id: str,
    *,
    background: Tensor | None = None,
    placement: PlacementRequest | None = None,
    strict: bool = False,
) -> PosedImages:
    """A posed image folder, its object brought into the box.

    Args:
        path: the directory. Where it has other frames in a `transforms_test.json` or `transforms_val.json`, those are measured
            on; else every `HELD_OUT_EVERY`-th view of four or more is kept for it.
        class_id, nerf_id: directory names of the output.
        background: the colour behind the object in images without opacity; what has this colour and is connected with the border
            of the image is taken as not covered.
        placement: where the object is, if it is not to be found.
        strict: whether missing images are an error; they are left out else.

    Raises:
        FileNotFoundError: no camera file, or none of its images (`strict`: one of them is missing).
        ValueError: bad cameras or images, names that lead out of the folder, no object that the views have in common, no camera
            that sees it. Messages start with the file or the folder.
    """
    directory = Path(path)
    capture = read_layout(directory)
    views, notes = _find_views(directory, capture.frames, strict=strict)
    held_views, _ = _find_views(directory, capture.held_out, strict=False) if capture.held_out else ([], [])
    held_views = _spread(held_views, MOST_HELD_OUT)
    factor = _factor([*views, *held_views])
    if factor > 1:
        notes.append(f"images made {factor} times smaller")
    try:
        shape = tuple(max(view.size[axis] for view in [*views, *held_views]) for axis in (0, 1))
        seen = _decode(views, shape, factor)
        held = _decode(held_views, shape, factor) if held_views else None
        parts = [seen] if held is None else [seen, held]
        surrounded, background = False, background
        if _without_opacity(views, parts):
            parts, background, note = _told_apart(parts, background, lossy=_is_lossy(views))
            surrounded = background is None
            notes.append(note)
        else:
            background = None
        seen, held = parts[0], parts[1] if held is not None else None
        masks = None if surrounded else seen.images[..., 3] > 0
        if masks is not None and not bool(masks.any()):
            raise ValueError("nothing is seen in any view; expected an object")
        found = found_placement(seen.cameras, masks, known=seen.known, points=capture.points, request=placement)
        seen = dataclasses.replace(seen, cameras=placed(seen.cameras, found).to(torch.float32))
        seen, blind = _looking_at_box(seen)
        notes += blind
        if held is not None:
            held = dataclasses.replace(held, cameras=placed(held.cameras, found).to(torch.float32))
            held = held[sees_box(held.cameras).nonzero()[:, 0].tolist()]
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(directory)) else f"{directory}: {text}") from error
    if held is None:
        seen, held = _split(seen)
    notes.append(found.found_by)
    names = tuple(f"train/{number:02d}" for number in range(len(seen.images)))
    posed = PosedImages(
        class_id,
        nerf_id,
        str(path),
        seen.images,
        dataclasses.replace(seen.cameras, image_names=names),
        held.images,
        held.cameras,
        background,
        tuple(notes),
        placement=found,
        known=seen.known,
        held_out_known=held.known,
        seen_by=SEEN_BY,
        tolerance=TOLERANCE,
        surrounded=surrounded,
    )
    try:
        require_object(posed, torch.device("cpu"))
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    return posed


def _find_views(directory: Path, frames: Sequence[Frame], *, strict: bool) -> tuple[list[_View], list[str]]:
    """The frames whose images are there, and what to say about the others."""
    views, missing = [], []
    for frame in frames:
        file = find_image(directory, frame.image)
        if file is None:
            missing.append(frame.image)
            continue
        picture = Picture.of(file)
        turn = picture.turned_to(frame.size)
        mask = None if frame.mask is None else find_image(directory, frame.mask)
        if frame.mask is not None and mask is None:
            raise FileNotFoundError(f"{directory / shown_name(frame.mask)}: no such mask; the camera file names it")
        alpha = _beside(directory, file, f"{file.stem}.alpha{file.suffix}")
        views.append(
            _View(frame, picture, turn, mask or alpha, _beside(directory, file, f"dynamic_mask_{file.stem}.png"))
        )
    if missing and (strict or not views):
        count = f"{len(missing)} of {len(frames)} images are missing" if len(missing) > 1 else "no such image"
        raise FileNotFoundError(
            f"{directory / shown_name(missing[0])}: {count}; the camera file names it, expected one for each frame"
        )
    return views, [f"{len(missing)} of {len(frames)} images are missing: left out"] if missing else []


def _beside(directory: Path, file: Path, name: str) -> Path | None:
    """A file with a name of its own beside an image, if it is there and in the capture's directory."""
    other = file.with_name(name).resolve()
    return other if other.is_file() and other.is_relative_to(directory.resolve()) else None


def _factor(views: Sequence[_View]) -> int:
    """How many times smaller the images are made, for their sides and their sum to stay within bounds."""
    side = max(max(view.size) for view in views)
    total = len(views) * math.prod(max(view.size[axis] for view in views) for axis in (0, 1))
    factor = max(math.ceil(side / LARGEST_SIDE), math.ceil(math.sqrt(total / MOST_PIXELS)), 1)
    if factor > 1 and min(min(view.size) for view in views) // factor < _LEAST_SIDE:
        raise ValueError(
            f"{len(views):,} images of up to {side:,} pixels are too many; at most {MOST_PIXELS:,} pixels are taken"
        )
    return factor


def _decode(views: Sequence[_View], shape: tuple[int, ...], factor: int) -> _Views:
    """Images in the upper left corners of arrays that hold the largest, and their cameras."""
    width, height = (-(-side // factor) for side in shape)
    images = np.zeros((len(views), height, width, 4), np.uint8)
    known = np.ones((len(views), height, width), np.bool_)
    for number, view in enumerate(views):
        pixels = view.picture.read(turn=view.turn, factor=factor).copy()
        if view.opacity is not None:
            opacity = read_mask(view.opacity, *view.size, factor=factor)
            pixels[..., 3] = np.minimum(pixels[..., 3], opacity)
        rows, columns = pixels.shape[:2]
        images[number, :rows, :columns] = pixels
        known[number, rows:], known[number, :, columns:] = False, False
        if view.ignored is not None:
            known[number, :rows, :columns] &= read_mask(view.ignored, *view.size, factor=factor) == 0
    cameras = cameras_of([view.frame for view in views], [view.size for view in views])
    cameras = dataclasses.replace(cameras, width=width * factor, height=height * factor).resized(width, height)
    told = torch.from_numpy(known)
    if cameras.lens is not None:
        for number in range(len(views)):
            told[number] &= cameras.shown(number)
        if float(told.double().mean()) < 0.5:
            raise ValueError(
                "its lens cannot be undone for most of the pixels; expected coefficients that belong to the images"
            )
    return _Views(torch.from_numpy(images), None if bool(told.all()) else told, cameras)


def _without_opacity(views: Sequence[_View], parts: Sequence[_Views]) -> bool:
    """Whether nothing in the images tells the object from what is around it. Raises `ValueError` if that differs among them."""
    stored = [view.picture.opacity or view.opacity is not None for view in views]
    if all(
        bool((part.images[..., 3] == 255)[slice(None) if part.known is None else part.known].all()) for part in parts
    ):
        return True
    if not all(stored):
        raise ValueError(
            f"{stored.count(False)} of {len(stored)} images have neither opacity nor a mask and the others do "
            f"({views[stored.index(False)].picture.path.name}); expected all or none"
        )
    return False


def _is_lossy(views: Sequence[_View]) -> bool:
    return any(view.picture.path.suffix.lower() in (".jpg", ".jpeg", ".webp") for view in views)


def _told_apart(
    parts: Sequence[_Views], background: Tensor | None, *, lossy: bool
) -> tuple[list[_Views], Tensor | None, str]:
    """Images with the opacity that a background colour gives them, that colour, and what to say."""
    tolerance = _LOSSY_TOLERANCE if lossy else _TOLERANCE
    note = "no opacity in the images: told apart by the background colour"
    if background is None:
        border = np.concatenate([_border(part) for part in parts])
        colour = np.median(border, axis=0)
        near = (np.abs(border.astype(np.int64) - colour) <= tolerance).all(axis=1)
        if near.mean() < _ONE_COLOUR:
            return (
                list(parts),
                None,
                "no opacity in the images: all that is in the box is fitted, what is around it is left out",
            )
        background = torch.from_numpy(colour / 255).float()
        note += " that their borders have, " + ",".join(f"{value:.3g}" for value in background.tolist())
    told = []
    for part in parts:
        opacity = opacity_by_colour(part.images[..., :3], background, tolerance=tolerance)
        told.append(dataclasses.replace(part, images=torch.cat([part.images[..., :3], opacity], dim=-1)))
    return told, background, note


def _border(part: _Views) -> NDArray[np.uint8]:
    """Colours ``(K, 3)`` of the pixels at the borders of images."""
    images = part.images.numpy()[..., :3]
    known = np.ones(images.shape[:3], np.bool_) if part.known is None else part.known.numpy()
    sides = [np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]]
    return np.concatenate([images[side][known[side]] for side in sides])


def opacity_by_colour(rgb: Tensor, background: Tensor, *, tolerance: int = _TOLERANCE) -> Tensor:
    """uint8 ``(V, height, width, 1)``: 0 where the background colour is connected with the image's border, else 255."""
    difference = (rgb.to(torch.int16) - (background * 255).round().to(torch.int16)).abs().amax(dim=-1)
    free = (difference <= tolerance).numpy()
    reached = np.zeros_like(free)
    for axis in (1, 2):
        for side in (0, -1):
            border = [slice(None)] * 3
            border[axis] = slice(side, side + 1 or None)
            reached[tuple(border)] = free[tuple(border)]
    before = -1
    while (count := int(reached.sum())) != before:
        before = count
        for axis in (1, 2):
            moved_free, moved = np.moveaxis(free, axis, 0), np.moveaxis(reached, axis, 0)
            for order in (range(1, len(moved)), range(len(moved) - 2, -1, -1)):
                for line in order:
                    previous = line - 1 if order.step > 0 else line + 1
                    moved[line] |= moved[previous] & moved_free[line]
    return torch.from_numpy(np.where(reached, 0, 255).astype(np.uint8))[..., None]


def _looking_at_box(views: _Views) -> tuple[_Views, list[str]]:
    sees = sees_box(views.cameras)
    count = int((~sees).sum())
    if count == len(sees):
        raise ValueError(
            "no camera has the place of the object in the picture; expected cameras that look at it, along -z of their axes "
            "(or --center X,Y,Z and --scale S where it is)"
        )
    if not count:
        return views, []
    return views[sees.nonzero()[:, 0].tolist()], [f"{count} of {len(sees)} cameras never see the object: left out"]


def _spread(views: list[_View], count: int) -> list[_View]:
    """At most so many of them, evenly."""
    if len(views) <= count:
        return views
    return [views[(2 * number + 1) * len(views) // (2 * count)] for number in range(count)]


def _split(views: _Views) -> tuple[_Views, _Views]:
    """Views to fit to and views to measure on."""
    count = len(views.images)
    if count < 4:
        return views, views[[]]
    chosen = list(range(HELD_OUT_EVERY // 2, count, HELD_OUT_EVERY)) or [count // 2]
    if len(chosen) > MOST_HELD_OUT:
        chosen = [chosen[(2 * number + 1) * len(chosen) // (2 * MOST_HELD_OUT)] for number in range(MOST_HELD_OUT)]
    return views[[view for view in range(count) if view not in chosen]], views[chosen]
