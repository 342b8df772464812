"""Mesh files -> `Mesh`: scene graph baked, z up, colours in sRGB, inside the NeRF box.

Files are read with trimesh (extra `objects`), which runs nothing that stands in them; they may name files in their folder
(materials, images, buffers), which are read too. Kinds: .glb .gltf .obj .ply .off .stl. glTF is checked and made plain first
(`gltf`).

Colours. glTF base colour factors and vertex colours are linear and become sRGB; its textures, and everything in the other
formats, are sRGB already. A texture and a factor are multiplied in linear light. Metalness, roughness, emission and normal maps
are left out: the views have matt shading. `alphaMode` MASK becomes holes, BLEND opacity, OPAQUE neither.

Limit: trimesh keeps base colour factors in 8 bits, so very dark ones are off by up to 6 sRGB levels of 255.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..extras import require
from ..files import StrPath
from .colours import factor_to_rgba8, linear_to_srgb, material_colour, srgb_to_linear, to_rgba8, with_alpha_mode
from .confined import confined_resolver
from .gltf import plain_glb
from .mesh import RADIUS, Mesh, face_normals
from .simplify import SIMPLIFIED_FACES, simplified
from .standing import looks_upright

EXTENSIONS = (".glb", ".gltf", ".obj", ".ply", ".off", ".stl")
MAX_FACES = 10_000_000
GREY = (160, 160, 160, 255)

UpAxis = Literal["auto", "y", "z"]

_USUAL_UP: dict[str, Literal["y", "z"]] = {
    ".glb": "y",
    ".gltf": "y",
    ".obj": "y",
    ".off": "y",
    ".ply": "z",
    ".stl": "z",
}
_STANDARD_UP = (".glb", ".gltf")
_MAX_TEXTURE_SIDE = 2048


def load_mesh(path: StrPath, *, up: UpAxis = "auto", radius: float = RADIUS) -> Mesh:
    """Read a mesh file and place it in the NeRF box.

    Args:
        path: a file with one of `EXTENSIONS`.
        up: the axis that points up in the file. "auto": y for glTF, whose standard says so; of the others, which say nothing, y
            for .obj and .off and z for .ply and .stl (files of printers and scanners), unless the object would lie then and stand
            otherwise (`standing`). `notes` says which was taken.
        radius: radius of the sphere that the object fills, see `Mesh.normalised`.

    Returns:
        the object with z up, centred, inside the box. `notes` says what was done to it beyond that.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown extension, broken or cut short, without triangles, with more than `MAX_FACES`, or with vertices that
            are not finite.
        ImportError: trimesh is not installed.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise ValueError(
            f"{path}: unknown extension {path.suffix!r} for a mesh; expected one of {', '.join(EXTENSIONS)}"
        )
    if up not in ("auto", "y", "z"):
        raise ValueError(f'up is {up!r}; expected "auto", "y" or "z"')
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file() or path.stat().st_size == 0:
        raise ValueError(f"{path}: is {'empty' if path.is_file() else 'not a file'}; expected a mesh")
    gltf = extension in (".glb", ".gltf")
    content, notes = _plain(path) if gltf else (None, [])
    scene = _read_scene(path, content)
    try:
        mesh = _collect(scene, gltf=gltf).finish()
        if mesh.n_faces > SIMPLIFIED_FACES:
            mesh = simplified(mesh)
        mesh = replace(mesh, notes=(*notes, *mesh.notes))
        axis, note = _found_up(mesh, extension) if up == "auto" else (up, "")
        mesh = replace(mesh, notes=(*mesh.notes, *([note] if note else [])))
        return (y_up(mesh) if axis == "y" else mesh).normalised(radius=radius)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _found_up(mesh: Mesh, extension: str) -> tuple[Literal["y", "z"], str]:
    """The axis of the file that is taken to point up, and what is to be said about that; the mesh is as in the file."""
    usual = _USUAL_UP[extension]
    plain = mesh.normalised()
    readings: dict[Literal["y", "z"], Mesh] = {"y": y_up(plain), "z": plain}
    other: Literal["y", "z"] = "z" if usual == "y" else "y"
    upright = looks_upright(readings[usual], readings[other])
    if extension in _STANDARD_UP:
        said = f"{usual} points up, as glTF has it, but the object looks as if it lay down; --up {other} lets it stand"
        return usual, said if upright is False else ""
    if upright is False:
        return other, f"{other} is taken to point up: with {usual} the object looks as if it lay down; --up overrides"
    return usual, f"{usual} is taken to point up, which nothing in {extension} files says; --up overrides"


def _plain(path: Path) -> tuple[bytes, list[str]]:
    try:
        return plain_glb(path)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{path}: {error}") from error
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from error
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (TypeError, KeyError, AttributeError, struct.error, OverflowError) as error:
        # A value of a kind that the checks did not expect: the file's fault.
        raise ValueError(f"{path}: is no glTF 2.0 that can be read ({type(error).__name__}: {error})"[:300]) from error


def _read_scene(path: Path, content: bytes | None) -> Any:
    trimesh: Any = require("trimesh", "objects")
    try:
        with _quiet():
            # No processing: merging vertices would tear texture seams, and dropping faces is ours to report.
            if content is not None:
                scene = trimesh.load_scene(io.BytesIO(content), file_type="glb", process=False, allow_remote=False)
            else:
                resolver = confined_resolver(path, importlib.import_module("trimesh.resolvers"))
                scene = trimesh.load_scene(path, process=False, allow_remote=False, resolver=resolver)
    except ImportError as error:
        raise ImportError(f"{path}: {error}; install what reads it with: pip install 'llana-gmn[objects]'") from error
    except MemoryError:
        raise
    except Exception as error:
        # Parsers fail with whatever a broken file leads them to (KeyError, struct.error, IndexError, ...): the file's fault.
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise ValueError(f"{path}: is no {path.suffix.lower()} mesh, or cut short ({reason})") from error
    _require_declared_faces(path, sum(_face_count(geometry) for geometry in scene.geometry.values()))
    return scene


def _require_declared_faces(path: Path, found: int) -> None:
    """trimesh takes what is left of text files that end early; their headers know better. Polygons only add triangles."""
    if path.suffix.lower() not in (".ply", ".off"):
        return
    with open(path, "rb") as file:
        head = file.read(1 << 16).decode("latin-1")
    if path.suffix.lower() == ".ply":
        match = re.search(r"^element face (\d+)\s*$", head, flags=re.MULTILINE)
        declared = match.group(1) if match else "0"
    else:  # OFF, then the numbers of vertices, faces and edges; the word may be missing, comments may stand between
        words = re.sub(r"#.*", "", head).split()
        numbers = words[1:] if words and words[0].endswith("OFF") else words
        declared = numbers[1] if len(numbers) > 1 and numbers[1].isdecimal() else "0"
    if found < int(declared):
        raise ValueError(f"{path}: is cut short: its header declares {declared} faces and {found} can be read")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """trimesh logs tracebacks of its own about files that are then refused with a clear sentence."""
    logger = logging.getLogger("trimesh")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        logger.setLevel(level)


@dataclass
class _Collected:
    """Geometries of a scene, piece by piece."""

    vertices: list[NDArray] = field(default_factory=list)
    faces: list[NDArray] = field(default_factory=list)
    normals: list[NDArray] = field(default_factory=list)
    colours: list[NDArray] = field(default_factory=list)
    uv: list[NDArray] = field(default_factory=list)
    texture: list[NDArray] = field(default_factory=list)
    textures: dict[tuple, tuple[int, NDArray[np.uint8]]] = field(default_factory=dict)
    part_names: list[str] = field(default_factory=list)
    n_vertices: int = 0
    uncoloured_faces: int = 0
    kept_alive: list[Any] = field(default_factory=list)  # `textures` is keyed by identity

    def finish(self) -> Mesh:
        if not self.faces:
            raise ValueError("holds no triangles; expected a surface (point clouds and curves cannot be rendered)")
        faces = np.concatenate(self.faces).astype(np.int32)
        vertices = np.concatenate(self.vertices)
        keep = (face_normals(vertices, faces) != 0).any(axis=1)
        notes = []
        if degenerate := int((~keep).sum()):
            if degenerate == len(faces):
                raise ValueError(f"none of its {len(faces)} triangles has an area; expected a surface")
            notes.append(f"left out {degenerate} of {len(faces)} triangles that have no area")
        if self.uncoloured_faces == len(faces):
            notes.append("no colour in the file: grey")
        elif self.uncoloured_faces:
            notes.append(f"no colour for {self.uncoloured_faces} of {len(faces)} triangles: grey")
        counts = [len(piece) for piece in self.faces]
        used, compact = np.unique(
            faces[keep], return_inverse=True
        )  # strays would shift the centre and shrink the object
        return Mesh(
            vertices=vertices[used],
            faces=compact.reshape(-1, 3).astype(np.int32),
            normals=np.concatenate(self.normals)[keep].astype(np.float32),
            colours=np.concatenate(self.colours)[keep],
            uv=np.concatenate(self.uv)[keep].astype(np.float32),
            texture=np.concatenate(self.texture)[keep].astype(np.int16),
            textures=tuple(image for _, image in self.textures.values()),
            part=np.repeat(np.arange(len(counts), dtype=np.int32), counts)[keep],
            part_names=tuple(self.part_names),
            notes=tuple(notes),
        )


def _collect(scene: Any, *, gltf: bool) -> _Collected:
    collected = _Collected()
    nodes = list(scene.graph.nodes_geometry)
    total = sum(_face_count(scene.geometry[scene.graph[node][1]]) for node in nodes)
    if total > MAX_FACES:
        raise ValueError(f"has {total:,} triangles; at most {MAX_FACES:,} are taken: simplify the mesh first")
    # trimesh ends the names of nodes with several primitives in random letters: without these the order is the file's alone.
    order = {node: (re.sub(r"_\w{6}$", "", str(node)), str(scene.graph[node][1]), str(node)) for node in nodes}
    for node in sorted(nodes, key=order.__getitem__):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if _face_count(geometry):
            _add_geometry(collected, geometry, np.asarray(transform, np.float64), str(name), gltf=gltf)
    return collected


def _face_count(geometry: Any) -> int:
    faces = getattr(geometry, "faces", None)
    return 0 if faces is None else len(faces)


def _add_geometry(
    collected: _Collected, geometry: Any, transform: NDArray[np.float64], name: str, *, gltf: bool
) -> None:
    faces = np.asarray(geometry.faces, np.int64)
    points = np.asarray(geometry.vertices, np.float64)
    if faces.min() < 0 or faces.max() >= len(points):
        raise ValueError(f"part {name!r} names vertex {int(faces.max())} of {len(points)}; the file is broken")
    used = points[faces]
    if not np.isfinite(used).all() or np.abs(used).max() > 1e18 or not np.isfinite(transform).all():
        raise ValueError(f"part {name!r} has vertices that are not finite (NaN or infinite); repair the mesh first")
    points = np.where(np.isfinite(points), points, 0.0)  # unused ones do no harm
    points = points @ transform[:3, :3].T + transform[:3, 3]
    with _quiet():
        colours, uv, image, found = _surface(collected, geometry, faces, gltf=gltf)
    collected.faces.append(faces + collected.n_vertices)
    collected.vertices.append(points)
    collected.normals.append(_corner_normals(geometry, points, faces, transform))
    collected.colours.append(colours)
    collected.uv.append(uv)
    collected.texture.append(np.full(len(faces), image))
    collected.part_names.append(name)
    collected.n_vertices += len(points)
    collected.uncoloured_faces += 0 if found else len(faces)


def _corner_normals(
    geometry: Any, points: NDArray[np.float64], faces: NDArray[np.int64], transform: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Those of the file where it has usable ones, else flat."""
    flat = face_normals(points, faces)
    corner = np.repeat(flat[:, None], 3, axis=1)
    stored = geometry._cache.cache.get("vertex_normals") if hasattr(geometry, "_cache") else None
    if stored is None or np.shape(stored) != points.shape or abs(np.linalg.det(transform[:3, :3])) < 1e-30:
        return corner.astype(np.float32)
    smooth = (np.asarray(stored, np.float64) @ np.linalg.inv(transform[:3, :3]))[faces]
    length = np.linalg.norm(smooth, axis=-1, keepdims=True)
    usable = np.isfinite(smooth).all(axis=-1, keepdims=True) & (length > 1e-12)
    return np.where(usable, smooth / np.where(usable, length, 1.0), corner).astype(np.float32)


def _surface(
    collected: _Collected, geometry: Any, faces: NDArray[np.int64], *, gltf: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32], int, bool]:
    """Corner colours `(F, 3, 4)`, texture coordinates `(F, 3, 2)`, texture index (-1 none), and whether the file has colour."""
    visual, n_faces = geometry.visual, len(faces)
    colours = np.full((n_faces, 3, 4), GREY, np.uint8)
    uv = np.zeros((n_faces, 3, 2), np.float32)
    if getattr(visual, "kind", None) in ("vertex", "face"):
        of_vertex = visual.kind == "vertex"
        values = to_rgba8(visual.vertex_colors if of_vertex else visual.face_colors, linear=gltf)
        return (values[faces] if of_vertex else np.repeat(values[:, None], 3, axis=1)), uv, -1, True
    material = getattr(visual, "material", None)
    if material is None:
        return colours, uv, -1, False
    factor, image, found = material_colour(material, gltf=gltf)
    coordinates = getattr(visual, "uv", None)
    index = -1
    if image is not None and coordinates is not None and np.shape(coordinates) == (len(geometry.vertices), 2):
        coordinates = np.nan_to_num(np.asarray(coordinates, np.float64), posinf=0.0, neginf=0.0)
        # Textures repeat; whole turns only cost float32 its fraction.
        uv = (coordinates - np.floor(coordinates.min(axis=0)))[faces].astype(np.float32)
        index = _texture_index(collected, image, factor, material)
        colours[:] = 255
        found = True
    elif found:
        colours[:] = with_alpha_mode(factor_to_rgba8(factor, linear=gltf), material)
    vertex = (getattr(visual, "vertex_attributes", None) or {}).get("color")
    if vertex is not None and len(vertex) == len(geometry.vertices):
        base = colours if found else np.full_like(colours, 255)
        product = base.astype(np.uint16) * to_rgba8(vertex, linear=gltf)[faces] // 255
        colours, found = product.astype(np.uint8), True
    return colours, uv, index, found


def _texture_index(collected: _Collected, image: Any, factor: NDArray[np.float64], material: Any) -> int:
    """The place of an image, multiplied by its factor in linear light, among the collected textures."""
    mode = (getattr(material, "alphaMode", None), getattr(material, "alphaCutoff", None))
    key = (id(image), tuple(factor.tolist()), mode)
    if key not in collected.textures:
        try:
            picture = image.convert("RGBA")  # decoded only here
        except Exception as error:  # whatever the picture's format fails with
            reason = str(error).partition("\n")[0][:120]
            raise ValueError(f"a texture of the mesh cannot be decoded ({reason}); repair or remove it") from error
        if max(picture.size) > _MAX_TEXTURE_SIDE:
            picture.thumbnail((_MAX_TEXTURE_SIDE, _MAX_TEXTURE_SIDE))
        texels = np.asarray(picture, np.uint8)
        if not np.allclose(factor, 1):
            linear = srgb_to_linear(texels[..., :3] / 255.0) * factor[:3]
            alpha = texels[..., 3:] / 255.0 * factor[3]
            texels = np.rint(np.concatenate([linear_to_srgb(linear), alpha], axis=-1) * 255).astype(np.uint8)
        collected.textures[key] = (len(collected.textures), with_alpha_mode(texels, material))
        collected.kept_alive.append(image)
    return collected.textures[key][0]


def y_up(mesh: Mesh) -> Mesh:
    """The mesh of a file whose y points up, z up: (x, y, z) -> (x, -z, y), as Blender imports such files."""

    def turn(points: NDArray) -> NDArray:
        return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)

    return replace(mesh, vertices=turn(mesh.vertices), normals=turn(mesh.normals))
