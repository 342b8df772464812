"""SOG bundles of PlayCanvas, versions 1 and 2: a zip file or a folder with a meta.json and lossless WebP images.

A splat is a pixel, row by row. Positions are 16 bits in two images, between limits, of sign(x) log(1 + abs(x)); scales, colours
and opacities a byte each, through a codebook (version 2) or between limits (version 1, where the opacity is a logit);
quaternions as the three smaller components and the place of the largest; the rest of the harmonics numbers rows of a palette.

Shapes: N splats, K coefficients of spherical harmonics a channel.
"""

from __future__ import annotations

import io
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .record import (
    COEFFICIENTS,
    MAX_SPLATS,
    Splats,
    check_count,
    exp,
    make_splats,
    quaternions_from_three,
    sigmoid,
)

META = "meta.json"

_MAX_META = 1 << 24
_PALETTE_ROW = 64  # entries of the palette side by side
_MAX_PALETTE = 1 << 16
_LARGEST = 252  # of the fourth byte of a quaternion: w is the largest component; then x, y, z

Read = Callable[[str], bytes]


def is_sog(path: Path, head: bytes) -> bool:
    """Whether a file or a folder has the meta.json of a SOG bundle."""
    try:
        if path.is_dir():
            meta = path / META
            with open(meta, "rb") as file:
                text = file.read(_MAX_META)
        elif head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(path) as archive:
                if not _member(archive, META):
                    return False
                text = _zip_reader(archive)(META)
        else:
            return False
        meta = json.loads(text)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError):
        return False
    return isinstance(meta, dict) and {"means", "scales", "quats", "sh0"} <= {*meta}


def read_sog(path: Path) -> Splats:
    """The splats of a bundle. Raises `ValueError` for parts that are missing, broken, too large, or do not fit together."""
    try:
        if path.is_dir():
            return _decode(lambda name: _read_beside(path, name))
        with zipfile.ZipFile(path) as archive:
            return _decode(_zip_reader(archive))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"is no SOG bundle, or cut short ({error}); fetch it again") from error
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"has a {META} that is not a SOG bundle's ({type(error).__name__}: {error})") from error


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """A file of the archive, alone or in folders."""
    found = [each for each in archive.infolist() if each.filename.rpartition("/")[2] == name]
    return min(found, key=lambda each: len(each.filename), default=None)


def _zip_reader(archive: zipfile.ZipFile) -> Read:
    def read(name: str) -> bytes:
        member = _member(archive, name)
        if member is None:
            raise ValueError(f"holds no {name}; expected it in the bundle")
        limit = _MAX_META if name == META else 4 * MAX_SPLATS
        if member.file_size > limit:
            raise ValueError(f"holds a {name} of {member.file_size:,} bytes; at most {limit:,} are read")
        with archive.open(member) as file:
            return file.read(limit)

    return read


def _read_beside(folder: Path, name: str) -> bytes:
    file = folder / name
    if not file.is_file():
        raise ValueError(f"holds no {name}; expected it beside {META}")
    limit = _MAX_META if name == META else 4 * MAX_SPLATS
    if file.stat().st_size > limit:
        raise ValueError(f"holds a {name} of {file.stat().st_size:,} bytes; at most {limit:,} are read")
    return file.read_bytes()


def _decode(read: Read) -> Splats:
    try:
        meta = json.loads(read(META))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has a {META} that is no JSON ({error})") from error
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise ValueError(f"is SOG of version {version!r}; expected 1 or 2")
    means = meta["means"]
    count = meta["count"] if version == 2 else means["shape"][0]
    if not isinstance(count, int) or isinstance(count, bool):
        raise ValueError(f"claims {count!r} splats; expected a number")
    check_count(count, 0, 0)
    low, high = (_picture(read, _file(means, number), count)[:, :3] for number in (0, 1))
    logarithms = _between(means, (low + 256.0 * high) / 65535)
    if version == 2:
        scales = _codebook(meta["scales"])[_picture(read, _file(meta["scales"]), count)[:, :3]]
        rgba = _picture(read, _file(meta["sh0"]), count)
        constant, opacities = _codebook(meta["sh0"])[rgba[:, :3]], rgba[:, 3] / np.float32(255)
    else:
        scales = _between(meta["scales"], _picture(read, _file(meta["scales"]), count)[:, :3] / 255)
        values = _between(meta["sh0"], _picture(read, _file(meta["sh0"]), count) / 255)
        constant, opacities = values[:, :3], sigmoid(values[:, 3])
    packed = _picture(read, _file(meta["quats"]), count)
    largest = packed[:, 3].astype(np.int64) - _LARGEST
    if largest.min() < 0:
        raise ValueError(f"has quaternions marked {int(packed[:, 3].min())}; expected {_LARGEST} to 255: broken images")
    others = (packed[:, :3] / np.float32(255) * 2 - 1) / np.float32(math.sqrt(2))
    harmonics = constant[:, None]
    if rest := meta.get("shN"):
        harmonics = np.concatenate([harmonics, _palette(read, rest, version)[_labels(read, rest, count)]], axis=1)
    return make_splats(
        f"Gaussian splats (.sog, version {version})",
        means=np.sign(logarithms) * np.expm1(np.abs(logarithms)),
        scales=exp(scales),
        rotations=quaternions_from_three(others, largest),
        opacities=opacities,
        harmonics=harmonics,
    )


def _file(part: Mapping[str, Any], number: int = 0) -> str:
    """The name of one of a part's images; nothing outside the bundle may be named."""
    name = part["files"][number]
    if not isinstance(name, str) or not name or any(sign in name for sign in "/\\:") or name in (".", ".."):
        raise ValueError(f"names the file {str(name)[:60]!r}; expected an image of the bundle, without folders")
    return name


def _picture(read: Read, name: str, least: int, *, width_of: int | None = None) -> NDArray[np.uint8]:
    """The first pixels ``(least, 4)`` of an image; with `width_of` the image ``(rows, width, 4)``, of a width that it divides."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(read(name)), formats=("WEBP", "PNG"))
        if image.width * image.height > 2 * MAX_SPLATS:
            raise ValueError(f"has {image.width} x {image.height} pixels; at most {2 * MAX_SPLATS:,} are read")
        pixels = np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"holds a {name} that is no picture, or cut short ({error})") from error
    if width_of is not None:
        if pixels.shape[1] % width_of:
            raise ValueError(f"holds a {name} {pixels.shape[1]} pixels wide; expected a multiple of {width_of}")
        return pixels
    if pixels.shape[0] * pixels.shape[1] < least:
        raise ValueError(f"holds a {name} of {pixels.shape[1]} x {pixels.shape[0]} pixels for {least:,} splats")
    return pixels.reshape(-1, 4)[:least]


def _numbers(value: Any, what: str) -> NDArray[np.float32]:
    numbers = np.asarray(value, np.float32)
    if numbers.ndim > 1 or numbers.size > _MAX_PALETTE or not np.isfinite(numbers).all():
        raise ValueError(f"has {what} of shape {numbers.shape}; expected finite numbers")
    return numbers


def _between(part: Mapping[str, Any], unit: NDArray) -> NDArray:
    low, high = (_numbers(part[name], name) for name in ("mins", "maxs"))
    if low.shape != high.shape or low.size not in (1, unit.shape[-1]):
        raise ValueError(f"has limits of {low.size} and {high.size} numbers; expected {unit.shape[-1]}")
    return (low + (high - low) * unit.astype(np.float32)).astype(np.float32)


def _codebook(part: Mapping[str, Any]) -> NDArray:
    values = _numbers(part["codebook"], "a codebook")
    if values.shape != (256,):
        raise ValueError(f"has a codebook of {values.size} numbers; expected 256")
    return values


def _labels(read: Read, part: Mapping[str, Any], count: int) -> NDArray[np.int64]:
    bytes_ = _picture(read, _file(part, 1), count).astype(np.int64)
    return bytes_[:, 0] + 256 * bytes_[:, 1]


def _palette(read: Read, part: Mapping[str, Any], version: int) -> NDArray[np.float32]:
    """The palette ``(65536, K - 1, 3)``, zero where the image has no entry."""
    pixels = _picture(read, _file(part), 0, width_of=_PALETTE_ROW)[..., :3]
    rest = pixels.shape[1] // _PALETTE_ROW
    if rest + 1 not in COEFFICIENTS[1:]:
        raise ValueError(f"has a palette of {rest} coefficients; expected 3, 8 or 15 (degree 1 to 3)")
    entries = pixels.reshape(-1, rest, 3)[:_MAX_PALETTE]
    result = np.zeros((_MAX_PALETTE, rest, 3), np.float32)
    result[: len(entries)] = _codebook(part)[entries] if version == 2 else _between(part, entries / 255)
    return result
