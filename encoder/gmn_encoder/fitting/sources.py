"""Sources of fits: posed image folders, mesh files, foreign fields and procedural objects, all to one record of posed images.

Shapes: V views.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..digests import plain
from ..files import StrPath
from ..nerfs.importers import foreign_suffixes, is_foreign
from ..objects import CLASS_IDS, CLASS_NAMES, Mesh, ProceduralObject, ViewSettings, generate, load_mesh, render_mesh
from ..objects.mesh_files import EXTENSIONS
from ..objects.procedural.catalogue import SEEDS_PER_SET
from ..progress import Progress, no_progress
from ..rendering.cameras import Cameras
from .layouts import find_layout
from .placement import PlacementRequest
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
) -> Iterator[Source]:
    """The sources that one SOURCE of the command line means.

    Args:
        text: ``procedural:N``; a foreign field; a mesh file; a directory with a camera file and its images; or a directory that
            is searched for all three, in sorted order.
        settings: settings of the views of meshes and procedural objects.
        seed: seed of the procedural objects.
        background: colour ``(3,)`` in 0..1 behind the object, of image folders without opacity.
        class_id: class directory of meshes and image folders; by default the synset of the class that their parent directory
            is named after, or else its name.
        placement: where the object is, of sources that have a world of their own.
        strict: whether image folders with missing images are refused.

    Raises:
        ValueError: no such kind of source, or nothing in the directory.
        FileNotFoundError: nothing there.
    """
    settings = settings or ViewSettings()
    if match := re.fullmatch(r"procedural:(.*)", text):
        if not re.fullmatch(r"[1-9]\d{0,7}", match.group(1)):
            raise ValueError(f"{text}: expected procedural:N with a number of objects, such as procedural:13")
        yield from _procedural(int(match.group(1)), seed, settings)
        return
    path = Path(text)
    if not path.exists():
        raise FileNotFoundError(f"{text}: no such file or directory; expected images, a mesh or procedural:N")
    found = False
    for each in _walk(path):
        found = True
        yield path_source(
            each, settings=settings, background=background, class_id=class_id, placement=placement, strict=strict
        )
    if not found:
        raise ValueError(
            f"{text}: holds neither a camera file (transforms.json) nor a mesh ({', '.join(EXTENSIONS)}); expected a source"
        )


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
    return Source(str(path), *ids, lambda: read_mesh(path, *ids, settings=settings))


def _walk(path: Path) -> Iterator[Path]:
    if path.is_file() or is_foreign(path):
        yield path
        return
    if find_layout(path) is None:
        for child in sorted(path.iterdir()):
            suffix = child.suffix.lower()
            if child.is_dir() or suffix in EXTENSIONS or (suffix in foreign_suffixes() and is_foreign(child)):
                yield from _walk(child)
        return
    yield path


def source_ids(path: Path, class_id: str | None = None) -> tuple[str, str]:
    """``(class_id, nerf_id)``, safe directory names, of a mesh file or an image folder."""
    path = path.absolute()
    parent = path.parent.name
    stem = path.stem if path.is_file() else path.name
    return class_id or CLASS_IDS.get(parent, _safe(parent)), _safe(stem)


def _safe(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "object"


def read_mesh(path: StrPath, class_id: str, nerf_id: str, *, settings: ViewSettings | None = None) -> PosedImages:
    """Views of a mesh file, taken from around it. Raises what `load_mesh` raises."""
    return from_mesh(load_mesh(path), class_id, nerf_id, source=str(path), settings=settings)


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


def _procedural(count: int, seed: int, settings: ViewSettings) -> Iterator[Source]:
    """As `generate_dataset` chooses them, made when they are needed."""
    for index in range(count):
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

        yield Source(f"procedural {nerf_id}", CLASS_IDS[name], nerf_id, load, make, index)


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
