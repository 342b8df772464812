"""The importer of Gaussian splats and coloured point clouds: which reader a file is for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ..base import Contents, Importer, register_importer
from .field import SplatField, splat_field
from .pcd import is_pcd, read_pcd
from .ply import MAGIC, PlyHeader, parse_header, read_header
from .points import is_point_cloud, read_point_cloud
from .record import Splats
from .records import read_ksplat, read_splat
from .sog import is_sog, read_sog
from .splat_ply import is_compressed_ply, is_splat_ply, read_compressed_ply, read_splat_ply
from .spz import is_spz, read_spz
from .xyz import read_xyz

_BY_SUFFIX: dict[str, Callable[[Path], Splats]] = {
    ".splat": read_splat,
    ".ksplat": read_ksplat,
    ".spz": read_spz,
    ".sog": read_sog,
    ".pcd": read_pcd,
    ".xyz": read_xyz,
}
_PLY_KINDS = (
    (is_compressed_ply, read_compressed_ply),
    (is_splat_ply, read_splat_ply),
    (is_point_cloud, read_point_cloud),
)


class SplatImporter(Importer):
    """Splats in .ply, compressed .ply, .splat, .ksplat, .spz and .sog, and point clouds in .ply, .pcd and .xyz.

    Files without a magic number (.splat, .ksplat, .xyz), and broken ones, are known by their suffix; a .ply with faces is a mesh.
    """

    name = "gaussian-splats"
    suffixes = (".ply", *_BY_SUFFIX)

    def recognises(self, contents: Contents) -> bool:
        return _reader(contents) is not None

    def read(self, contents: Contents) -> SplatField:
        reader = _reader(contents)
        if reader is None:
            raise ValueError("holds no splats; expected .ply, .splat, .ksplat, .spz or .sog")
        return splat_field(reader(contents.path), contents.path)


def read_splats(path: Path) -> Splats:
    """The splats of any file that the importer knows. Raises `ValueError` for any other, and what its reader raises."""
    reader = _reader(Contents(path))
    if reader is None:
        raise ValueError(f"{path}: holds no splats; expected .ply, .splat, .ksplat, .spz or .sog")
    return reader(path)


def _reader(contents: Contents) -> Callable[[Path], Splats] | None:
    if contents.head.startswith(MAGIC):
        return _ply_reader(contents)
    if is_spz(contents.head):
        return read_spz
    if is_pcd(contents.head):
        return read_pcd
    if not contents.is_torch_file and is_sog(contents.path, contents.head):
        return read_sog
    return None if contents.is_directory else _BY_SUFFIX.get(contents.path.suffix.lower())


def _ply_reader(contents: Contents) -> Callable[[Path], Splats] | None:
    header: PlyHeader | None = None
    with contextlib.suppress(ValueError):  # a broken header may be a mesh's, whose reader says so
        header = parse_header(contents.head) if b"end_header" in contents.head else read_header(contents.path)
    for knows, read in _PLY_KINDS:
        if header is not None and knows(header):
            found = header
            return lambda path, read=read: read(path, found)  # type: ignore[misc]
    return None


register_importer(SplatImporter())
