"""What a NeRF was fitted to: whether a finished one is still of the source that stands there now.

`fit.json` has under ``inputs`` the SHA-256 of each file that the source is read from, how it is read, and a digest of the views
that came of it. Files that are as they were settle it. Where one is not, the source is opened, and its views decide: a note
beside the images, or another name of a material, is no other object.

Records of earlier versions have no inputs: the views that a fit leaves beside its weights are compared with those of the source.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from PIL import Image

from ..digests import Digests, digest_of, files_below
from ..objects.gltf_checks import read_parts
from ..rendering.camera_files import read_cameras
from .output import CAMERAS_NAME
from .posed_images import PosedImages
from .sources import Source

_NOT_SEEN = ("class_id", "nerf_id", "source", "notes", "procedural")
"""Fields of `PosedImages` that a fit does not depend on."""
_HEADER = 1 << 16


def input_files(path: Path) -> dict[str, Path]:
    """Name -> file, of what a source is read from: all below a directory; a file, and the materials, images and buffers that it
    names, whether they are there or not."""
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file for file in files_below(path)}
    found = {path.name: path}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for name in _named_by(file):
            if name not in found:
                found[name] = path.parent / name
                waiting.append(found[name])
    return found


def files_of(source: Source, digests: Digests) -> dict[str, Any]:
    """What `fit.json` says of the files of a source and how they are read; empty for one that is not read from disk.

    To be asked before the source is opened: what changes later then differs from what the record says.
    """
    if source.path is None:
        return {}
    files = input_files(source.path)
    hashes = digests.digests(list(files.values()))
    return {"files": dict(zip(files, hashes, strict=True)), "options": dict(source.options)}


def are_same_files(source: Source, inputs: Mapping[str, Any], digests: Digests) -> bool:
    """Whether the files of a source, and how they are read, are those of a record; images are not opened."""
    if source.path is None:
        return True
    then = inputs.get("files")
    if not isinstance(then, dict) or inputs.get("options") != source.options:
        return False
    # A file's own content says which others it names, so that it is enough to look at those.
    folder = source.path if source.path.is_dir() else source.path.parent
    if source.path.is_dir() and set(input_files(source.path)) != set(then):
        return False
    return digests.digests([folder / name for name in then]) == list(then.values())


def views_digest(posed: PosedImages) -> str:
    """SHA-256 of all that a fit sees of a source."""
    fields = [each.name for each in dataclasses.fields(posed) if not each.name.startswith("_")]
    return digest_of({name: getattr(posed, name) for name in fields if name not in _NOT_SEEN})


def are_stored_views(directory: Path, posed: PosedImages) -> bool:
    """Whether the views that stand in a NeRF's directory are those of a source."""
    if posed.background is not None:  # which is not stored
        return False
    try:
        cameras = read_cameras(directory / CAMERAS_NAME, width=posed.cameras.width, height=posed.cameras.height)
        if cameras.image_names != posed.cameras.image_names or len(cameras) != len(posed.images):
            return False
        pairs = ((getattr(cameras, name), getattr(posed.cameras, name)) for name in ("camera_to_world", "focal"))
        if not all(torch.allclose(one, other, atol=1e-5) for one, other in pairs):
            return False
        for name, image in zip(cameras.image_names, posed.images, strict=True):
            with Image.open(directory / f"{name}.png") as stored:
                if not np.array_equal(np.asarray(stored), image.numpy()):
                    return False
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _named_by(file: Path) -> list[str]:
    """Names of neighbouring files in a mesh file or a material file; none where it is neither, or broken."""
    try:
        if file.suffix.lower() == ".obj":
            return [name for line in _lines(file, b"mtllib") for name in (line, *line.split())]
        if file.suffix.lower() == ".mtl":
            lines = _lines(file, b"map_", b"bump", b"disp", b"decal", b"norm", b"refl")
            return [name for line in lines for name in (line, line.split()[-1])]
        if file.suffix.lower() == ".ply":
            with open(file, "rb") as stream:
                header = stream.read(_HEADER).partition(b"end_header")[0]
            return [name.decode("utf-8", "replace").strip() for name in re.findall(rb"TextureFile (.+)", header)]
        if file.suffix.lower() in (".gltf", ".glb"):
            content = read_parts(file)[0]
            entries = [*content.get("buffers", []), *content.get("images", [])]
            uris = [entry.get("uri", "") for entry in entries if isinstance(entry, dict)]
            return [unquote(uri) for uri in uris if isinstance(uri, str) and uri and not uri.startswith("data:")]
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    return []


def _lines(file: Path, *words: bytes) -> list[str]:
    """What follows lines' first words that begin with one of these."""
    found = []
    with open(file, "rb") as stream:
        for line in stream:
            first, _, rest = line.strip().partition(b" ")
            if first.lower().startswith(words) and rest.strip():
                found.append(rest.strip().decode("utf-8", "replace").replace("\\", "/"))
    return found
