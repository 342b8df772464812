"""Files that are rows of fixed length: .splat, which has nothing else, and .ksplat of the three.js viewer.

.splat: 32 bytes a splat, no header: position and standard deviations (float32), colour and opacity (bytes), quaternion w, x, y, z
as (byte - 128) / 128. Without a header only its name tells what it is.

.ksplat, version 0.1: a header of 4096 bytes, 1024 bytes for each section, then the sections. Uncompressed (level 0), a splat is
position, standard deviations, quaternion w, x, y, z (float32), colour and opacity (bytes), harmonics (float32; left out: programs
disagree about their order). Levels 1 and 2 are refused.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from .record import COEFFICIENTS, MAX_SPLATS, Splats, check_count, harmonics_of_colours, make_splats

_SPLAT = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])
_KSPLAT = [("mean", "<f4", 3), ("scale", "<f4", 3), ("rotation", "<f4", 4), ("rgba", "u1", 4)]
_FILE_HEADER, _SECTION_HEADER = 4096, 1024
_KSPLAT_DEGREE = 2  # the most that the format has


def read_splat(path: Path) -> Splats:
    """A .splat file. Raises `ValueError` where its size is no multiple of 32 bytes."""
    size = path.stat().st_size
    if not size or size % _SPLAT.itemsize:
        raise ValueError(
            f"has {size:,} bytes; expected a multiple of {_SPLAT.itemsize}, the bytes of a splat: "
            "it is cut short, or no .splat file"
        )
    check_count(size // _SPLAT.itemsize, _SPLAT.itemsize, size)
    rows = np.fromfile(path, _SPLAT)
    rgba = rows["rgba"] / np.float32(255)
    return make_splats(
        "Gaussian splats (.splat)",
        means=rows["mean"],
        scales=rows["scale"],
        rotations=rows["rotation"].astype(np.float32) - 128,
        opacities=rgba[:, 3],
        harmonics=harmonics_of_colours(rgba[:, :3]),
    )


def read_ksplat(path: Path) -> Splats:
    """An uncompressed .ksplat file. Raises `ValueError` for compressed ones, other versions, and files that are cut short."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(_FILE_HEADER)
        if len(head) < _FILE_HEADER:
            raise ValueError(f"has {size:,} bytes; expected a .ksplat header of {_FILE_HEADER:,}: it is cut short")
        sections, level = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<H", head, 20)[0]
        if head[:2] != b"\x00\x01":
            raise ValueError(f"is .ksplat of version {head[0]}.{head[1]}; expected 0.1")
        if level:
            raise ValueError(
                f"is a .ksplat file of compression level {level}, which is not read; expected level 0: "
                "write it as .ply or .spz from the program that made it"
            )
        if not 0 < sections <= (size - _FILE_HEADER) // _SECTION_HEADER:
            raise ValueError(f"claims {sections:,} sections in {size:,} bytes; the file is cut short or broken")
        headers = file.read(sections * _SECTION_HEADER)
        at, parts, total, dependent = _FILE_HEADER + sections * _SECTION_HEADER, [], 0, False
        for start in range(0, len(headers), _SECTION_HEADER):
            used, room = struct.unpack_from("<II", headers, start)
            buckets, bytes_each, partly = (
                struct.unpack_from("<I", headers, start + place)[0] for place in (12, 20, 36)
            )
            degree = struct.unpack_from("<H", headers, start + 40)[0]
            if degree > _KSPLAT_DEGREE or used > room:
                raise ValueError(
                    f"has a section with harmonics of degree {degree}, or {used:,} splats in room for {room:,}"
                )
            rest = 3 * (COEFFICIENTS[degree] - 1)
            kind = np.dtype([*_KSPLAT, ("rest", "<f4", rest)])
            at += 4 * partly + (bytes_each & 0xFFFF) * buckets  # of level 0 nothing is relative to the buckets
            total += used
            dependent |= degree > 0
            if used:
                check_count(total, 0, size)
                check_count(used, kind.itemsize, size - at)
                parts.append(np.fromfile(path, kind, used, offset=at))
            at += room * kind.itemsize
    if not parts:
        raise ValueError(f"holds no splats; expected 1 to {MAX_SPLATS:,}")
    colours = np.concatenate([part["rgba"] for part in parts]) / np.float32(255)
    return make_splats(
        "Gaussian splats (.ksplat)",
        means=np.concatenate([part["mean"] for part in parts]),
        scales=np.concatenate([part["scale"] for part in parts]),
        rotations=np.concatenate([part["rotation"] for part in parts]),
        opacities=colours[:, 3],
        harmonics=harmonics_of_colours(colours[:, :3]),
        notes=("how colours depend on the direction is left out: writers of .ksplat order it differently",)
        if dependent
        else (),
    )
