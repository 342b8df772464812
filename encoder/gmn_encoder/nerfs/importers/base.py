"""Radiance fields of other programs: what one is here, who reads it, and how its reader is found.

An importer is found by what is in a file, never by the file's name. It says what the file is and gives a `ForeignField` in the
source's own world; `fitting.distil` finds the object in it and brings it into the box.

Shapes: S points.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from ...files import StrPath, read_tensors, torch_outline
from ...pickles import NUMPY_NUMBERS, Outline
from ..fields import Box, mean_over_directions, spread_directions
from ..record import AVERAGED_DIRECTIONS

Vector = tuple[float, float, float]
Viewpoints = Literal["sphere", "hemisphere"]

_HEAD = 4096
_TORCH_ZIP, _TORCH_LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

Self = TypeVar("Self", bound="ForeignField")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ForeignField(ABC):
    """A radiance field in the world of the program that made it.

    A kind of field is a dataclass that derives from this one and has `density` and `colour`.

    Attributes:
        kind: what it is, in words for people, such as "nerfstudio nerfacto checkpoint".
        source: the file or directory that it was read from.
        box: lowest and highest corner of where the field may hold something, in its world; of an unbounded scene its centre.
        up: the direction that points up in its world.
        tensors: its numbers, all on one device.
        view_dependent: whether colours depend on the direction that one looks in.
        bounded: whether nothing is outside `box`; False: a scene that goes on beyond it.
        viewpoints: where cameras may plausibly have stood: all around, or above the ground only. What is seen from nowhere
            there is not part of the object: no image ever taught the field anything about it.
        camera_distance: how far from the middle of `box` cameras stood, about, in its units; None: all of it fits a view.
        camera_angle: their field of view, radians; None: that of the released views.
        background: the colour behind the object in training, if it was one: the field may hold opaque matter of it, which no view
            tells from nothing. None: unknown, or changing.
        step: length of a marching step that is fine enough to render the field, in its units; None: 1/1024 of the diagonal.
        sizes: JSON-ready numbers and words about it, for `inspect`.
        notes: sentences worth saying about it, such as what was assumed.
    """

    kind: str
    source: Path
    box: Box
    tensors: Mapping[str, Tensor] = field(repr=False)
    up: Vector = (0.0, 0.0, 1.0)
    view_dependent: bool = False
    bounded: bool = True
    viewpoints: Viewpoints = "sphere"
    camera_distance: float | None = None
    camera_angle: float | None = None
    background: Vector | None = None
    step: float | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @abstractmethod
    def density(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Density at points ``(S, 3)`` float32 in the field's world.

        Returns:
            density ``(S, 1)`` per unit of the field's world, not negative, zero where the field holds nothing; and features
            ``(S, F)`` of any width, from which `colour` makes colours.
        """

    @abstractmethod
    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        """sRGB colours ``(S, 3)`` in 0..1.

        Args:
            features: what `density` gave ``(S, F)``.
            directions: unit vectors from the camera to the points ``(S, 3)``; ignored unless `view_dependent`.
        """

    def query(self, xyz: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Colour and density in the field's own world, as `Nerf.query` has them in ours.

        Args:
            xyz: points ``(..., 3)``.
            directions: unit vectors from the camera to the points, ``(..., 3)`` or what broadcasts to it; None: colours are the
                mean over `averaged_directions`.

        Returns:
            rgb ``(..., 3)`` in 0..1 and density ``(..., 1)`` per unit of the field's world.
        """
        points = xyz.reshape(-1, 3).float()
        density, features = self.density(points)
        if directions is None and self.view_dependent:
            rgb = mean_over_directions(
                lambda each: self.colour(features, each.expand_as(points)), self.averaged_directions.to(points)
            )
        else:
            looks = points.new_tensor([0.0, 0.0, -1.0]) if directions is None else directions.to(points)
            rgb = self.colour(features, looks.expand_as(xyz).reshape(-1, 3))
        return rgb.reshape(*xyz.shape[:-1], 3), density.reshape(*xyz.shape[:-1], 1)

    def image(
        self, camera_to_world: Tensor, focal: Tensor, principal_point: Tensor, width: int, height: int
    ) -> Tensor | None:
        """The field's own picture, for kinds that are not rendered by marching rays, such as splats.

        Args:
            camera_to_world: ``(4, 4)``, a pinhole camera in the field's world, OpenGL axes.
            focal, principal_point: ``(2,)`` pixels, as of `Cameras`.
            width, height: size in pixels.

        Returns:
            ``(height, width, 4)`` in 0..1, colour multiplied by opacity, and opacity; None: rays are marched through the density.
        """
        return None

    def within(self: Self, keep: Callable[[Tensor], Tensor]) -> Self:
        """What `image` shows of it without what is not the object; kinds that are marched are cut by voxels instead.

        Args:
            keep: points ``(S, 3)`` of the field's world to bool ``(S,)``.
        """
        return self

    @cached_property
    def averaged_directions(self) -> Tensor:
        """Fixed directions ``(D, 3)``, evenly over those from plausible viewpoints, that colours are averaged over."""
        directions = spread_directions(
            2 * AVERAGED_DIRECTIONS if self.viewpoints == "hemisphere" else AVERAGED_DIRECTIONS
        )
        if self.viewpoints == "sphere":
            return directions
        return directions[directions @ torch.tensor(self.up) < 0]

    @property
    def diagonal(self) -> float:
        """Length of the diagonal of `box`."""
        return math.dist(*self.box)

    @property
    def device(self) -> torch.device:
        return next(iter(self.tensors.values())).device

    def to(self: Self, device: torch.device | str) -> Self:
        return replace(self, tensors={key: tensor.to(device) for key, tensor in self.tensors.items()})

    def describe(self) -> dict[str, Any]:
        """What `inspect` says of it, as JSON-ready values."""
        return {
            "file": str(self.source),
            "kind": self.kind,
            "box": [list(corner) for corner in self.box],
            "up": list(self.up),
            "bounded": self.bounded,
            "view_dependent": self.view_dependent,
            "averaged_directions": len(self.averaged_directions) if self.view_dependent else 0,
            "numbers": sum(tensor.numel() for tensor in self.tensors.values()),
            "sizes": dict(self.sizes),
            "notes": list(self.notes),
        }


class Contents:
    """What stands at a path, read no further than it takes to tell what it is.

    Attributes:
        path: the file or directory.
        head: the first bytes of a file, empty for a directory.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file or directory")
        self.head = b""
        if self.path.is_file():
            try:
                with open(self.path, "rb") as file:
                    self.head = file.read(_HEAD)
            except OSError as error:
                raise OSError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    @property
    def is_directory(self) -> bool:
        return self.path.is_dir()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @property
    def is_torch_file(self) -> bool:
        """Whether it begins as `torch.save` files do; a zip file with other members may too."""
        if self.head.startswith(_TORCH_ZIP):
            return b"/data.pkl" in self.head  # torch.save writes it first
        return self.head.startswith(_TORCH_LEGACY)

    @cached_property
    def outline(self) -> Outline:
        """The keys of the dict in a `torch.save` file, and of each dict in it, without reading a tensor; empty for other files.

        Raises `ValueError` for one that is broken or asks for code, which is not run.
        """
        return torch_outline(self.path, extra=NUMPY_NUMBERS) if self.is_torch_file else {}

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """What a `torch.save` file holds, read once; an empty dict for any other file.

        Raises `ValueError` for one that is broken or asks for code, which is not run.
        """
        if not self.is_torch_file:
            return {}
        return read_tensors(self.path, extra=NUMPY_NUMBERS)[0]


class Importer(ABC):
    """Reads one kind of foreign field.

    Attributes:
        name: short name, such as "nerf-pytorch".
        suffixes: the usual endings of its files, by which directories are searched; a file that is named is read by its content.
        settings: names, as patterns, of the run's files that are read where they stand beside a file or one directory above.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, contents: Contents) -> bool:
        """Whether it is for this importer to read. True for what it knows and must refuse, so that `read` can say why."""

    @abstractmethod
    def read(self, contents: Contents) -> ForeignField:
        """The field. Raises `ValueError` with what was found, what was expected, and what to do."""


IMPORTERS: dict[str, Importer] = {}
"""By name, in the order in which they are asked."""


def register_importer(importer: Importer) -> None:
    """Make an importer known. Raises `ValueError` where its name is another's."""
    if type(IMPORTERS.get(importer.name, importer)) is not type(importer):
        raise ValueError(f"importer {importer.name!r} is registered already; choose another name")
    IMPORTERS[importer.name] = importer


def find_importer(path: StrPath | Contents) -> Importer | None:
    """The importer that knows what stands at a path, or None.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a broken checkpoint, or one that asks for code, which is not run.
    """
    contents = path if isinstance(path, Contents) else Contents(path)
    return next((importer for importer in IMPORTERS.values() if importer.recognises(contents)), None)


def is_foreign(path: StrPath) -> bool:
    """Whether an importer knows what stands at a path, or will say what is wrong with it; False where nothing is."""
    try:
        return find_importer(path) is not None
    except FileNotFoundError:
        return False
    except (ValueError, OSError):
        return True


def import_field(path: StrPath) -> ForeignField:
    """Read a foreign field, on the CPU.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no importer knows it, or what the importer refuses; the message starts with the path.
        ImportError: a package that it takes is not installed; the message names the extra.
    """
    contents = Contents(path)
    importer = find_importer(contents)
    if importer is None:
        raise ValueError(f"{path}: no importer knows what this is; expected one of {', '.join(IMPORTERS)}")
    try:
        return importer.read(contents)
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error


def foreign_suffixes() -> tuple[str, ...]:
    """The usual endings of foreign fields' files, lower case with their dot."""
    return tuple(dict.fromkeys(suffix for importer in IMPORTERS.values() for suffix in importer.suffixes))


def settings_beside(path: StrPath) -> list[Path]:
    """The settings of its run that an importer may read with a checkpoint: beside it and one directory above."""
    path = Path(path)
    try:
        if not path.is_file() or not Contents(path).is_torch_file:
            return []
    except OSError:  # which its reader says
        return []
    patterns = dict.fromkeys(pattern for importer in IMPORTERS.values() for pattern in importer.settings)
    folders = (path.parent, path.parent / "..")
    return [each for folder in folders for pattern in patterns for each in sorted(folder.glob(pattern))]


def require_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises `ValueError` where a tensor is missing or has another shape (-1: any size)."""
    for key, shape in shapes.items():
        found = tensors.get(key)
        if not isinstance(found, Tensor):
            raise ValueError(f"{key!r} is missing; expected a tensor of shape {list(shape)}")
        fits = found.ndim == len(shape) and all(e in (-1, size) for size, e in zip(found.shape, shape, strict=True))
        if not fits or not found.is_floating_point():
            raise ValueError(f"{key!r} is {list(found.shape)} {found.dtype}; expected {list(shape)}, floating point")
        if not bool(torch.isfinite(found).all()):
            raise ValueError(f"{key!r} has NaN or infinite values; expected finite weights")
