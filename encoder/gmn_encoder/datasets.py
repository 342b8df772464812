"""Data sets of NeRFs on disk: the released layout with split files, and what a fit writes, which is the same.

    <root>/<family>/<class_id>/<nerf_id>/nerf_weights.pth        <root>/{train,val,test}.txt with lines class_id/nerf_id

Nothing is opened to list a set: two levels of directories are scanned, seconds for 100,000 NeRFs, and weights are read when an
item is asked for. Objects are known by ``(class_id, nerf_id)``: `nerf_id` alone is not unique in the released data
(docs/released_format.md#data-layout).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import StrPath
from .nerfs.architectures import NerfArchitecture, paper_families
from .nerfs.files import WEIGHTS_NAME, load_nerf
from .nerfs.record import Nerf
from .rendering.camera_files import camera_file, read_cameras
from .rendering.cameras import Cameras
from .rendering.occupancy import GRID_NAME, OccupancyGrid, read_occupancy

ObjectId = tuple[str, str]
"""``(class_id, nerf_id)``."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class NerfEntry:
    """A NeRF directory, not opened yet.

    Attributes:
        path: the directory.
        class_id, nerf_id: the names of the last two directories.
    """

    path: Path

    @property
    def class_id(self) -> str:
        return self.path.parent.name

    @property
    def nerf_id(self) -> str:
        return self.path.name

    @property
    def object_id(self) -> ObjectId:
        return self.class_id, self.nerf_id

    def load(self, architecture: NerfArchitecture | str | None = None) -> Nerf:
        """The NeRF. Raises what `load_nerf` raises, for a member that is missing with the path that was expected."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"{self.path}: no such NeRF directory; expected {WEIGHTS_NAME} in it")
        return load_nerf(self.path, architecture)

    def grid(self) -> OccupancyGrid:
        return read_occupancy(self.path / GRID_NAME)

    def cameras(self) -> Cameras:
        return read_cameras(camera_file(self.path))


class NerfDataset(Sequence[NerfEntry]):
    """The NeRFs of one family, in the order of a split file or sorted by class and name; items are read when asked for.

    Args:
        root: the directory of the family (``.../hash``), which holds class directories.
        split: "train", "val", "test" or a path to a list; the lists stand one directory above, or in, the family's. None: all
            that is there.

    Raises:
        FileNotFoundError: no such directory or list.
        ValueError: a line of the list that is not ``class_id/nerf_id``, or stands in it twice; a directory without NeRFs.
    """

    def __init__(self, root: StrPath, split: str | Path | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root}: no such directory; expected one that holds <class_id>/<nerf_id>")
        if split is None:
            self.object_ids: list[ObjectId] = list(scan(self.root))
            if not self.object_ids:
                raise ValueError(f"{self.root}: holds no NeRFs; expected <class_id>/<nerf_id>/{WEIGHTS_NAME}")
        else:
            self.object_ids = read_split(split_file(self.root, split))

    def __len__(self) -> int:
        return len(self.object_ids)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.entry(each) for each in self.object_ids[index]]
        return self.entry(self.object_ids[index])

    def entry(self, object_id: ObjectId) -> NerfEntry:
        return NerfEntry(self.root.joinpath(*object_id))

    def missing(self) -> list[ObjectId]:
        """The members of the list that are not on disk."""
        there = set(scan(self.root))
        return [each for each in self.object_ids if each not in there]


def scan(root: StrPath) -> Iterator[ObjectId]:
    """``(class_id, nerf_id)`` of every NeRF directory under a family's, sorted. Hidden and unfinished ones are left out."""
    for class_entry in _directories(root):
        for nerf_entry in _directories(class_entry.path):
            yield class_entry.name, nerf_entry.name


def _directories(path: StrPath) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(found, key=lambda entry: entry.name)


def split_file(root: StrPath, split: str | Path) -> Path:
    """The list that a split's name, or path, means for a family's directory."""
    if isinstance(split, str) and split in SPLITS:
        candidates = [
            directory / f"{split}.txt" for directory in (Path(root).parent, Path(root), Path(root).parent.parent)
        ]
    else:
        candidates = [Path(split)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"{candidates[0]}: no such list; expected lines class_id/nerf_id, or one of {', '.join(SPLITS)}"
    )


def read_split(path: StrPath) -> list[ObjectId]:
    """The members of a list, in its order, which defines sample numbers everywhere (docs/released_format.md#data-layout)."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not a text file; expected lines class_id/nerf_id") from error
    members: list[ObjectId] = []
    seen: dict[ObjectId, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        parts = text.strip("/").split("/")[-2:]
        if len(parts) != 2 or not all(parts) or any(part in (".", "..") for part in parts):
            raise ValueError(f"{path}: line {number} is {text!r}; expected class_id/nerf_id")
        key = (parts[0], parts[1])
        if key in seen:
            raise ValueError(f"{path}: line {number} repeats line {seen[key]}, {text!r}; expected every NeRF once")
        seen[key] = number
        members.append(key)
    return members


class PairedDataset(Sequence[dict[str, NerfEntry]]):
    """The same objects in several families: item i maps each family's name to its NeRF of object i.

    Args:
        root: holds the families' directories and the lists.
        families: names of these directories; None: those of the paper's families.
        split: split or list, see `NerfDataset`; None: the objects that all families have.

    Raises:
        FileNotFoundError: a family's directory or the list is missing.
        ValueError: no object is there in all families; a member of the list is missing in one (the first is named).
    """

    def __init__(
        self, root: StrPath, families: Iterable[str] | None = None, *, split: str | Path | None = None
    ) -> None:
        self.root = Path(root)
        families = paper_families() if families is None else families
        self.families = {family: NerfDataset(self.root / family, split) for family in families}
        if not self.families:
            raise ValueError("no families to pair; expected at least one")
        first, *others = self.families.values()
        if split is None:
            common = set(first.object_ids).intersection(*(other.object_ids for other in others))
            self.object_ids = [each for each in first.object_ids if each in common]
            if not self.object_ids:
                raise ValueError(f"{self.root}: no object is there in all of {', '.join(self.families)}")
            return
        self.object_ids = first.object_ids
        for family, members in self.families.items():
            if missing := members.missing():
                raise ValueError(
                    f"{members.root}: {len(missing)} of {len(members)} objects of the list are missing in {family}, "
                    f"such as {'/'.join(missing[0])}; expected every object in every family"
                )

    def __len__(self) -> int:
        return len(self.object_ids)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return {family: members.entry(self.object_ids[index]) for family, members in self.families.items()}
