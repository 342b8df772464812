"""Sources of fits: posed image folders, mesh files, foreign fields and procedural objects, all to one record of posed images.

Shapes: V views.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files import StrPath
from ..nerfs.importers import foreign_suffixes, is_foreign
from ..objects import CLASS_IDS, CLASS_NAMES, Mesh, ProceduralObject, ViewSettings, generate, load_mesh, render_mesh
from ..objects.mesh_files import EXTENSIONS
from ..objects.procedural.catalogue import SEEDS_PER_SET
from ..rendering.camera_files import camera_file, read_cameras
from ..rendering.cameras import Cameras
from ..rendering.occupancy import OccupancyGrid
from .hull import visual_hull
from .placement import Placement, PlacementRequest

HELD_OUT_VIEWS = 4
"""Views of meshes and procedural objects that are taken besides, to measure on."""
HELD_OUT_EVERY = 9
"""Image folders: every so many-th view is kept to measure on (the four of 36)."""

_IMAGE_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp")
_HELD_OUT_SEED = 7919
_BACKGROUND_TOLERANCE = 6


@dataclass(frozen=True, eq=False)
class PosedImages:
    """What a NeRF is fitted to.

    Attributes:
        class_id, nerf_id: directory names of the output.
        source: name of where it comes from, for the record.
        images: uint8 ``(V, height, width, 4)``, sRGB and straight opacity, on the CPU.
        cameras: the cameras of the views, on the CPU.
        held_out, held_out_cameras: views to measure on, which training does not see; may be none.
        background: ``(3,)`` in 0..1 where the images stand before a colour and opacity is what was told apart from it.
        notes: sentences worth saying about it.
        procedural: the procedural object, if it is one.
        placement: how the source's own world was brought into the box, where it was.
    """

    class_id: str
    nerf_id: str
    source: str
    images: Tensor
    cameras: Cameras
    held_out: Tensor
    held_out_cameras: Cameras
    background: Tensor | None = None
    notes: tuple[str, ...] = ()
    procedural: ProceduralObject | None = field(default=None, repr=False)
    placement: Placement | None = None
    _hulls: dict[torch.device, OccupancyGrid] = field(default_factory=dict, init=False, repr=False)

    def hull(self, device: torch.device) -> OccupancyGrid:
        """The visual hull of the views, found once for all families that are fitted to them."""
        if device not in self._hulls:
            self._hulls[device] = visual_hull((self.images[..., 3] > 0).to(device), self.cameras.to(device))
        return self._hulls[device]

    def __post_init__(self) -> None:
        for images, cameras in ((self.images, self.cameras), (self.held_out, self.held_out_cameras)):
            expected = (len(cameras), cameras.height, cameras.width, 4)
            if tuple(images.shape) != expected or images.dtype != torch.uint8:
                raise ValueError(
                    f"{self.source}: images have shape {list(images.shape)} and dtype {images.dtype}; "
                    f"expected uint8 {list(expected)}, a picture for each camera"
                )
        if not bool((self.images[..., 3] > 0).any()):
            raise ValueError(f"{self.source}: nothing is seen in any view; expected an object")


@dataclass(frozen=True)
class Source:
    """A source that was not opened yet.

    Attributes:
        name: the word that messages call it by.
        class_id, nerf_id: directory names of the output.
        load: function that opens it.
        procedural: function that makes the procedural object, if it is one.
        index: number of the procedural object.
    """

    name: str
    class_id: str
    nerf_id: str
    load: Callable[[], PosedImages] = field(repr=False)
    procedural: Callable[[], ProceduralObject] | None = field(default=None, repr=False)
    index: int | None = None


def find_sources(
    text: str,
    *,
    settings: ViewSettings | None = None,
    seed: int = 0,
    background: Tensor | None = None,
    class_id: str | None = None,
    placement: PlacementRequest | None = None,
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
        yield path_source(each, settings=settings, background=background, class_id=class_id, placement=placement)
    if not found:
        raise ValueError(
            f"{text}: holds neither a camera file (transforms.json) nor a mesh ({', '.join(EXTENSIONS)}); expected a source"
        )


def path_source(
    path: StrPath,
    *,
    settings: ViewSettings | None = None,
    background: Tensor | None = None,
    class_id: str | None = None,
    placement: PlacementRequest | None = None,
) -> Source:
    """The source that one foreign field, image folder or mesh file is; arguments as of `find_sources`.

    What is wrong shows when it is loaded.
    """
    path = Path(path)
    ids = source_ids(path, class_id)
    if is_foreign(path):
        from .distil import read_foreign  # which makes what this module has

        return Source(str(path), *ids, lambda: read_foreign(path, *ids, settings=settings, placement=placement))
    if path.is_dir():
        return Source(str(path), *ids, lambda: read_images(path, *ids, background=background))
    return Source(str(path), *ids, lambda: read_mesh(path, *ids, settings=settings))


def _walk(path: Path) -> Iterator[Path]:
    if path.is_file() or is_foreign(path):
        yield path
        return
    try:
        camera_file(path)
    except FileNotFoundError:
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
    held_out = ViewSettings(n_views=HELD_OUT_VIEWS, size=settings.size, seed=settings.seed + _HELD_OUT_SEED)
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


def read_images(path: StrPath, class_id: str, nerf_id: str, *, background: Tensor | None = None) -> PosedImages:
    """A posed image folder: a camera file, and an image for each of its frames.

    Args:
        path: the directory. Where it has other frames in a `transforms_test.json` or `transforms_val.json`, those are measured
            on; else every `HELD_OUT_EVERY`-th view of four or more is kept for it.
        background: the colour behind the object in images without opacity; what has this colour and is connected with the border
            of the image is taken as not covered.

    Raises:
        FileNotFoundError: no camera file, or an image that it names is missing.
        ValueError: bad cameras, images of different sizes, images without opacity and no `background`.
    """
    directory = Path(path)
    file = camera_file(directory)
    images, cameras, opaque = _read_frames(directory, file)
    held_file = next((f for n in ("test", "val") if (f := directory / f"transforms_{n}.json").is_file()), None)
    if held_file is not None:
        held, held_cameras, held_opaque = _read_frames(directory, held_file)
        opaque = opaque or held_opaque
    elif len(images) >= 4:
        chosen = list(range(HELD_OUT_EVERY // 2, len(images), HELD_OUT_EVERY)) or [len(images) // 2]
        others = [view for view in range(len(images)) if view not in chosen]
        held, held_cameras = images[chosen], cameras[chosen]
        images, cameras = images[others], cameras[others]
    else:
        held, held_cameras = images[:0], cameras[:0]
    notes: tuple[str, ...] = ()
    if opaque:
        if background is None:
            raise ValueError(
                f"{directory}: its images have no opacity; expected RGBA, or the colour behind the object (--background R,G,B)"
            )
        images, held = (torch.cat([part[..., :3], _opacity(part[..., :3], background)], -1) for part in (images, held))
        notes = ("no opacity in the images: told apart by the background colour",)
    else:
        background = None
    names = tuple(f"train/{number:02d}" for number in range(len(images)))
    cameras = Cameras(
        cameras.camera_to_world, cameras.focal, cameras.principal_point, cameras.width, cameras.height, names
    )
    return PosedImages(class_id, nerf_id, str(path), images, cameras, held, held_cameras, background, notes)


def _read_frames(directory: Path, file: Path) -> tuple[Tensor, Cameras, bool]:
    """Images, cameras and whether the images lack opacity."""
    names = read_cameras(file).image_names
    pictures, opaque = [], False
    for name in names:
        image_file = _image_file(directory, name)
        try:
            with Image.open(image_file) as image:
                opaque |= image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info
                pictures.append(np.asarray(image.convert("RGBA")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{image_file}: is no image, or cut short ({error})") from error
        if pictures[-1].shape != pictures[0].shape:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (pictures[-1], pictures[0])]
            raise ValueError(
                f"{image_file}: is {sizes[0]} pixels, the first image {sizes[1]}; expected one size for all"
            )
    height, width = pictures[0].shape[:2]
    cameras = read_cameras(file, width=width, height=height)
    if (cameras.width, cameras.height) != (width, height):
        cameras = cameras.resized(width, height)  # images that were scaled after their cameras were found
    return torch.from_numpy(np.stack(pictures)), cameras, opaque


def _image_file(directory: Path, name: str) -> Path:
    relative = Path(name)
    candidates = [directory / f"{name}{suffix}" for suffix in _IMAGE_SUFFIXES]
    # The released camera files name the renderer's folders; their images are train/00.png and so on.
    candidates += [directory / "train" / f"{relative.name}{suffix}" for suffix in _IMAGE_SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{candidates[1]}: no such image; the camera file names it, expected one for each frame")


def _opacity(rgb: Tensor, background: Tensor) -> Tensor:
    """uint8 ``(V, height, width, 1)``: 0 where the background colour is connected with the image's border, else 255."""
    difference = (rgb.to(torch.int16) - (background * 255).round().to(torch.int16)).abs().amax(dim=-1)
    free = (difference <= _BACKGROUND_TOLERANCE).numpy()
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
