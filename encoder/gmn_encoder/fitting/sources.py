"""Sources of fits: posed image folders, mesh files, foreign fields and procedural objects, all to one record of posed images.

Shapes: V views.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..digests import plain
from ..files import StrPath
from ..nerfs.files import is_nerf_directory
from ..nerfs.importers import find_importer, foreign_suffixes, is_foreign
from ..objects import CLASS_IDS, CLASS_NAMES, Mesh, ProceduralObject, ViewSettings, generate, load_mesh, render_mesh
from ..objects.mesh_changes import MeshChange, copy_id, moved, upright
from ..objects.mesh_files import EXTENSIONS
from ..objects.procedural.catalogue import SEEDS_PER_SET
from ..progress import Progress, no_progress
from ..rendering.cameras import Cameras
from .layouts import find_layout
from .placement import Placement, PlacementRequest, Vector
from .posed_images import HELD_OUT_SEED, HELD_OUT_VIEWS, PosedImages


@dataclass(frozen=True)
class Source:
    """A source that was not opened yet.

    Attributes:
        name: the word that messages call it by.
        class_id, nerf_id: directory names of the output.
        load: function that opens it.
        procedural: function that makes the procedural object, if it is one.
        index: number of the procedural object.
        path: the file or directory that it is read from, by whose content a later run tells whether it changed; None for what
            is made rather than read.
        options: how it is read, for JSON: another reading is another source.
        render: function that opens it where that takes a while, on a device and with progress; `load` does the same without.
    """

    name: str
    class_id: str
    nerf_id: str
    load: Callable[[], PosedImages] = field(repr=False)
    procedural: Callable[[], ProceduralObject] | None = field(default=None, repr=False)
    index: int | None = None
    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    render: Callable[[torch.device | str | None, Progress], PosedImages] | None = field(default=None, repr=False)

    def open(self, device: torch.device | str | None = None, progress: Progress = no_progress) -> PosedImages:
        """Load it, on a device and with progress where it can."""
        return self.load() if self.render is None else self.render(device, progress)


def _from_disk(source_of: Callable[..., Source]) -> Callable[..., Source]:
    """Let the sources that a function makes of paths say what they are read from, and how: with which keyword arguments."""

    @functools.wraps(source_of)
    def with_path(path: StrPath, **options: Any) -> Source:
        how = {name: plain(value) for name, value in sorted(options.items()) if value is not None}
        return dataclasses.replace(source_of(path, **options), path=Path(path), options=how)

    return with_path


def find_sources(
    text: str,
    *,
    settings: ViewSettings | None = None,
    seed: int = 0,
    background: Tensor | None = None,
    class_id: str | None = None,
    placement: PlacementRequest | None = None,
    strict: bool = False,
    copies: int = 0,
) -> Iterator[Source]:
    """The sources that one SOURCE of the command line means.

    Args:
        text: ``procedural:N``, the first so many, or ``procedural:A..B``, those from number A up to B without it;
            ``manifest:FILE``, the meshes of a JSON list, standing as its "up_axis" says; a foreign field; a mesh file; a
            directory with a camera file and its images; or a directory that is searched for all three, in sorted order.
        settings: settings of the views of meshes and procedural objects.
        seed: seed of the procedural objects.
        background: colour ``(3,)`` in 0..1 behind the object, of image folders without opacity.
        class_id: class directory of meshes and image folders; by default the synset of the class that their parent directory
            is named after, or else its name.
        placement: where the object is, of sources that have a world of their own.
        strict: whether image folders with missing images are refused.
        copies: for objects of ``procedural`` and ``manifest``, so many changed copies (`MeshChange`) of each instead of itself.

    Raises:
        ValueError: no such kind of source, copies of another kind, or nothing in the directory.
        FileNotFoundError: nothing there.
    """
    settings = settings or ViewSettings()
    kind, _, rest = text.partition(":")
    if kind == "procedural":
        yield from _procedural(_numbers(text), seed, settings, copies)
        return
    if kind == "manifest":
        yield from manifest_sources(rest, settings=settings, class_id=class_id, copies=copies)
        return
    if copies:
        raise ValueError(f"{text}: only objects of procedural: and manifest: have changed copies; fit it as it is")
    path = Path(text)
    if not path.exists():
        raise FileNotFoundError(f"{text}: no such file or directory; expected images, a mesh or procedural:N")
    found = False
    for each in sources_below(path):
        found = True
        yield path_source(
            each, settings=settings, background=background, class_id=class_id, placement=placement, strict=strict
        )
    if not found:
        raise ValueError(
            f"{text}: holds neither a camera file (transforms.json) nor a mesh ({', '.join(EXTENSIONS)}); expected a source"
        )


def _numbers(text: str) -> range:
    """The numbers of procedural objects that ``procedural:N`` or ``procedural:A..B`` means."""
    match = re.fullmatch(r"procedural:(?:(\d{1,8})\.\.)?([1-9]\d{0,7})", text)
    numbers = range(int(match.group(1) or 0), int(match.group(2))) if match else range(0)
    if not numbers:
        raise ValueError(
            f"{text}: expected procedural:N with a number of objects, such as procedural:13, or procedural:A..B, "
            "such as procedural:13..26"
        )
    return numbers


def manifest_sources(
    path: StrPath, *, settings: ViewSettings | None = None, class_id: str | None = None, copies: int = 0
) -> Iterator[Source]:
    """The meshes of a JSON list, which stand beside it: "file" each, and "up_axis", y or z, where they do not stand along y.

    With `copies`, so many changed copies of each instead.

    Raises `FileNotFoundError` for a missing list, and `ValueError` for one that is none.
    """
    path = Path(path)
    try:
        files = [(path.parent / entry["file"], entry.get("up_axis", "y")) for entry in json.loads(path.read_bytes())]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a JSON list of meshes") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{path}: is no JSON list of meshes with a "file" each ({error!r})') from error
    for file, up_axis in files:
        for number in _copy_numbers(copies):
            yield mesh_source(file, settings=settings, class_id=class_id, up_axis=up_axis, copy=number or None)


def _copy_numbers(copies: int) -> range:
    return range(1, copies + 1) if copies else range(1)


@_from_disk
def mesh_source(
    path: StrPath,
    *,
    settings: ViewSettings | None = None,
    class_id: str | None = None,
    up_axis: str = "y",
    copy: int | None = None,
) -> Source:
    """The source that one mesh file is, standing along an axis of its file, or a changed copy of it; else as `find_sources`.

    What is wrong shows when it is loaded.
    """
    path = Path(path)
    class_id, own_id = source_ids(path, class_id)
    if copy is None:

        def load_standing() -> PosedImages:
            mesh = upright(load_mesh(path, up="y"), up_axis)
            return from_mesh(mesh, class_id, own_id, source=str(path), settings=settings)

        return Source(str(path), class_id, own_id, load_standing)

    def load_copy() -> PosedImages:
        mesh = MeshChange.drawn(class_id, own_id, copy).apply(upright(load_mesh(path, up="y"), up_axis))
        return from_mesh(mesh, class_id, copy_id(own_id, copy), source=f"{path}, copy {copy}", settings=settings)

    return Source(f"{path}, copy {copy}", class_id, copy_id(own_id, copy), load_copy)


@_from_disk
def path_source(
    path: StrPath,
    *,
    settings: ViewSettings | None = None,
    background: Tensor | None = None,
    class_id: str | None = None,
    placement: PlacementRequest | None = None,
    strict: bool = False,
) -> Source:
    """The source that one foreign field, image folder or mesh file is; arguments as of `find_sources`.

    What is wrong shows when it is loaded.
    """
    path = Path(path)
    ids = source_ids(path, class_id)
    if is_foreign(path):
        from .distil import read_foreign  # which makes what this module has

        def render(device: torch.device | str | None, progress: Progress) -> PosedImages:
            about: dict[str, Any] = {"settings": settings, "placement": placement}
            return read_foreign(path, *ids, **about, device=device, progress=progress)

        return Source(str(path), *ids, lambda: render(None, no_progress), render=render)
    if path.is_dir():
        from .captures import read_capture

        return Source(
            str(path),
            *ids,
            lambda: read_capture(path, *ids, background=background, placement=placement, strict=strict),
        )
    asked = placement or PlacementRequest()
    if asked.center is not None or asked.scale is not None:
        raise ValueError(f"{path}: is a mesh, which is brought into the box whole: without --center and --scale")
    return Source(str(path), *ids, lambda: read_mesh(path, *ids, settings=settings, up=asked.up))


def is_source(path: StrPath) -> bool:
    """Whether there is something to fit to at a path: a foreign field, a mesh file or an image folder.

    False for a NeRF of ours, although the views that it was fitted to may stand beside it, and for a directory of sources. Raises
    `ValueError` for a file that is broken, which takes its time to find out and is not to be looked for again.
    """
    path = Path(path)
    if path.is_file():
        return path.suffix.lower() in EXTENSIONS or find_importer(path) is not None
    return path.is_dir() and not is_nerf_directory(path) and (is_foreign(path) or find_layout(path) is not None)


def sources_below(path: StrPath) -> Iterator[Path]:
    """What can be fitted to at a path or below a directory, in sorted order; the views of a NeRF of ours as well."""
    path = Path(path)
    if path.is_file() or is_foreign(path) or find_layout(path) is not None:
        yield path
        return
    for child in sorted(path.iterdir()):
        suffix = child.suffix.lower()
        if child.is_dir() or suffix in EXTENSIONS or (suffix in foreign_suffixes() and is_foreign(child)):
            yield from sources_below(child)


def source_ids(path: Path, class_id: str | None = None) -> tuple[str, str]:
    """``(class_id, nerf_id)``, safe directory names, of a mesh file or an image folder."""
    path = path.absolute()
    parent = path.parent.name
    stem = path.stem if path.is_file() else path.name
    return class_id or CLASS_IDS.get(parent, _safe(parent)), _safe(stem)


def _safe(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "object"


def read_mesh(
    path: StrPath, class_id: str, nerf_id: str, *, settings: ViewSettings | None = None, up: Vector | None = None
) -> PosedImages:
    """Views of a mesh file, taken from around it.

    Args:
        path: the file.
        class_id, nerf_id: names of the output's directories.
        settings: settings of the views.
        up: the direction of the file that points up; None: as `load_mesh` finds it.

    Raises what `load_mesh` raises.
    """
    return from_mesh(_standing_mesh(path, up), class_id, nerf_id, source=str(path), settings=settings)


def _standing_mesh(path: StrPath, up: Vector | None) -> Mesh:
    if up is None:
        return load_mesh(path)
    length = math.hypot(*up)
    if up[1] == length or up[2] == length:  # what files usually have, without a rounded rotation
        return load_mesh(path, up="y" if up[1] == length else "z")
    turn = Placement(center=(0.0, 0.0, 0.0), scale=1.0, up=up).turn
    return moved(load_mesh(path, up="z"), turn.numpy()).normalised()


def from_mesh(
    mesh: Mesh,
    class_id: str,
    nerf_id: str,
    *,
    source: str,
    settings: ViewSettings | None = None,
    procedural: ProceduralObject | None = None,
) -> PosedImages:
    """Views of a mesh in the box, and `HELD_OUT_VIEWS` from elsewhere to measure on."""
    settings = settings or ViewSettings()
    held_out = ViewSettings(n_views=HELD_OUT_VIEWS, size=settings.size, seed=settings.seed + HELD_OUT_SEED)
    images, cameras = _take_views(mesh, settings)
    held, held_cameras = _take_views(mesh, held_out)
    return PosedImages(
        class_id, nerf_id, source, images, cameras, held, held_cameras, notes=mesh.notes, procedural=procedural
    )


def _take_views(mesh: Mesh, settings: ViewSettings) -> tuple[Tensor, Cameras]:
    views = render_mesh(mesh, settings)
    names = tuple(f"train/{number:02d}" for number in range(settings.n_views))
    return torch.from_numpy(views.images), dataclasses.replace(views.cameras, image_names=names)


def _procedural(numbers: range, seed: int, settings: ViewSettings, copies: int = 0) -> Iterator[Source]:
    """As `generate_dataset` chooses them, made when they are needed; with `copies`, so many changed ones of each instead."""
    for index in numbers:
        name = CLASS_NAMES[index % len(CLASS_NAMES)]
        own = seed * SEEDS_PER_SET + index // len(CLASS_NAMES)
        nerf_id = f"{name}-{own:09d}"

        def make(name: str = name, own: int = own) -> ProceduralObject:
            return generate(name, own)

        def load(make: Callable[[], ProceduralObject] = make) -> PosedImages:
            made = make()
            source = f"procedural {made.object_id}"
            return from_mesh(
                made.mesh, made.class_id, made.object_id, source=source, settings=settings, procedural=made
            )

        def load_copy(number: int, make: Callable[[], ProceduralObject] = make) -> PosedImages:
            made = make()
            mesh = MeshChange.drawn(made.class_id, made.object_id, number).apply(made.mesh)
            source = f"procedural {made.object_id}, copy {number}"
            return from_mesh(mesh, made.class_id, copy_id(made.object_id, number), source=source, settings=settings)

        if not copies:
            yield Source(f"procedural {nerf_id}", CLASS_IDS[name], nerf_id, load, make, index)
        for number in range(1, copies + 1):
            load_number = functools.partial(load_copy, number)
            yield Source(f"procedural {nerf_id}, copy {number}", CLASS_IDS[name], copy_id(nerf_id, number), load_number)


def check_ids(sources: Sequence[Source]) -> Iterator[tuple[Source, str | None]]:
    """Each source, with what is wrong if an earlier one has its place in the output."""
    seen: dict[tuple[str, str], str] = {}
    for source in sources:
        key = (source.class_id, source.nerf_id)
        if key in seen:
            yield (
                source,
                f"{source.name}: would be written over {seen[key]} ({'/'.join(key)}); expected different names",
            )
            continue
        seen[key] = source.name
        yield source, None
