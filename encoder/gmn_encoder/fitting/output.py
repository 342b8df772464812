"""What a fit leaves on disk: NeRFs in the released layout (docs/released_format.md#data-layout), with `fit.json`, `preview.png`,
splits and texts.

    <out>/<mlp|triplane|hash>/<class_id>/<nerf_id>/: nerf_weights.pth, grid.pth, transforms_train.json, train/00.png

The ten architectures that encoders do not train on stand in ``<family>_unseen/<name>``, as `HASH-11T`. A directory is put
together under a hidden name and appears by a rename. Views that several families share are one file with several names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..datasets import SPLITS
from ..files import StrPath, atomic_directory, read_json, write_bytes, write_json
from ..nerfs.architectures import FAMILY_NAMES, NAMED_ARCHITECTURES, NANO_ARCHITECTURES, NerfArchitecture
from ..nerfs.files import WEIGHTS_NAME, save_nerf
from ..nerfs.record import Nerf
from ..objects import ProceduralObject, write_texts
from ..rendering.camera_files import write_cameras
from ..rendering.images import contact_sheet, rgba_over
from ..rendering.occupancy import GRID_NAME, OccupancyGrid, write_occupancy
from .posed_images import PosedImages

FIT_NAME = "fit.json"
PREVIEW_NAME = "preview.png"
CAMERAS_NAME = "transforms_train.json"

_PREVIEW_SIDE = 112
_PREVIEW_VIEWS = 4


def family_directory(architecture: NerfArchitecture) -> str:
    """Where under the output the NeRFs of an architecture stand."""
    trained_on = NAMED_ARCHITECTURES[FAMILY_NAMES[architecture.family]]
    if architecture in (trained_on, *NANO_ARCHITECTURES.values()):
        return architecture.family
    return f"{architecture.family}_unseen/{architecture.name}"


def nerf_directory(out: StrPath, architecture: NerfArchitecture, class_id: str, nerf_id: str) -> Path:
    return Path(out, family_directory(architecture), class_id, nerf_id)


def is_complete(directory: Path) -> bool:
    """Whether a NeRF directory was finished by a fit."""
    return (directory / FIT_NAME).is_file() and (directory / WEIGHTS_NAME).is_file()


def fit_notes(directory: StrPath) -> list[str]:
    """What is to be said about the source of a fit: how it was read, and what it lacks."""
    return [str(note) for note in read_json(Path(directory, FIT_NAME)).get("notes", [])]


def write_fit(
    directory: Path,
    posed: PosedImages,
    nerf: Nerf,
    grid: OccupancyGrid,
    *,
    record: Mapping[str, Any],
    rendered: Tensor,
    shared: Path | None = None,
) -> None:
    """Write one NeRF directory, whole or not at all; an earlier one is replaced.

    Args:
        directory: the NeRF's directory.
        posed: the views that were fitted to.
        nerf, grid: the NeRF and its occupied voxels.
        record: content of `fit.json`.
        rendered: ``(V, height, width, 3)`` in 0..1, the held-out views as fitted.
        shared: directory of another family's NeRF of the same object, whose views are linked.

    Raises:
        OSError: the disk is full or may not be written; nothing stays behind.
    """
    with atomic_directory(directory, replace=True) as temporary:
        save_nerf(nerf, temporary)
        write_occupancy(grid, temporary / GRID_NAME)
        write_cameras(posed.cameras, temporary / CAMERAS_NAME)
        (temporary / "train").mkdir()
        names = posed.cameras.image_names or tuple(f"train/{view:02d}" for view in range(len(posed.images)))
        for image, name in zip(posed.images, names, strict=True):
            _write_view(image, temporary / f"{name}.png", None if shared is None else shared / f"{name}.png")
        if len(rendered):
            preview(rendered, posed.held_out).save(temporary / PREVIEW_NAME)
        write_json(dict(record), temporary / FIT_NAME)


def _write_view(image: Tensor, file: Path, shared: Path | None) -> None:
    if shared is not None and shared.is_file():
        with contextlib.suppress(OSError):  # another disk, or one without links: a copy then
            os.link(shared, file)
            return
    Image.fromarray(image.numpy()).save(file)


def preview(rendered: Tensor, true: Tensor) -> Image.Image:
    """Fitted views above true ones, over white, small."""
    white = torch.ones(3)
    rows = [rendered[:_PREVIEW_VIEWS].cpu(), rgba_over(true[: min(len(rendered), _PREVIEW_VIEWS)], white)]
    pictures = [
        Image.fromarray(view.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()).resize(
            (_PREVIEW_SIDE, max(1, round(_PREVIEW_SIDE * view.shape[0] / view.shape[1]))), Image.Resampling.BOX
        )
        for row in rows
        for view in row
    ]
    return contact_sheet(pictures, columns=len(pictures) // 2)


def split_of(index: int) -> str:
    """The split of procedural object number `index`: 8 of 10 train, then val, then test. As 10 and the 13 classes share no
    factor, classes stay balanced; a larger data set only adds to the splits."""
    return SPLITS[max(index % 10 - 7, 0)]


def write_splits(out: StrPath, members: Iterable[tuple[str, str, str]]) -> None:
    """Write ``train.txt``, ``val.txt`` and ``test.txt`` with ``class_id/nerf_id`` lines from (split, class_id, nerf_id)."""
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, class_id, nerf_id in members:
        lines[split].append(f"{class_id}/{nerf_id}\n")
    for split, entries in lines.items():
        write_bytes("".join(entries).encode(), Path(out, f"{split}.txt"))


def write_language(out: StrPath, objects: Iterable[tuple[str, ProceduralObject]], *, seed: int = 0) -> None:
    """Write ``<out>/<split>/texts/conversations_*.json`` of procedural objects, as ShapeNeRF-Text lays them out
    (#shapenerf-text)."""
    by_split: dict[str, list[ProceduralObject]] = {split: [] for split in SPLITS}
    for split, each in objects:
        by_split[split].append(each)
    for split, members in by_split.items():
        if members:
            write_texts(members, Path(out, "language", split, "texts"), seed=seed)
