"""Point clouds of the Point Cloud Library (`.pcd`, version 0.7): as text, binary, and compressed.

A header of lines says the fields of a point, their sizes, types and counts, and how many points there are; it ends with the line
``DATA ascii|binary|binary_compressed``. Compressed data are two 32-bit sizes and one LZF stream, in which each field stands for
all points before the next one begins.

Shapes: N points.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .points import splats_of_points
from .record import Splats, check_count

_HEADER = 1 << 16
_TYPES = {"F": {4: "f4", 8: "f8"}, "U": {1: "u1", 2: "u2", 4: "u4", 8: "u8"}, "I": {1: "i1", 2: "i2", 4: "i4", 8: "i8"}}
_PACKED = ("rgb", "rgba")
_MAX_FIELDS = 100
_MAX_COUNT = 4096
_MAX_UNPACKED = 64 << 20
"""Bytes of a compressed cloud: they are unpacked one by one."""


def is_pcd(head: bytes) -> bool:
    """Whether a file begins as a PCD file."""
    return bool(re.match(rb"(#[^\n]*\n)*\s*(VERSION|FIELDS)[ \t]", head))


def read_pcd(path: Path) -> Splats:
    """Points as splats.

    Raises:
        ValueError: a header that is none, more points than the file has bytes for, data that are broken.
    """
    with open(path, "rb") as file:
        head = file.read(_HEADER)
    found = re.search(rb"(?:^|\n)DATA[ \t]+(\w+)[ \t]*\r?\n", head)
    if found is None:
        raise ValueError("has a PCD header without the line DATA in its first 64 KiB; expected one")
    lines = [line.split() for line in head[: found.start()].decode("latin-1").splitlines()]
    header = {words[0]: words[1:] for words in lines if words and not words[0].startswith("#")}
    row, count = _row(header), _count(header)
    available = path.stat().st_size - found.end()
    how = found.group(1).decode()
    if how == "ascii":
        columns = sum(int(np.prod(row[name].shape, dtype=int)) for name in row.names or ())
        check_count(count, 2 * columns - 1, available, "points")
        table = _read_text(path, found.end(), row, count)
    elif how == "binary":
        check_count(count, row.itemsize, available, "points")
        table = np.fromfile(path, row, count, offset=found.end())
    elif how == "binary_compressed":
        table = _read_compressed(path, found.end(), row, count)
    else:
        raise ValueError(f"has data as {how!r}; expected ascii, binary or binary_compressed")
    points = np.stack([table[name].reshape(count, -1)[:, 0].astype(np.float32) for name in "xyz"], axis=1)
    return splats_of_points("point cloud (.pcd)", points, _colours(table))


def _row(header: dict[str, list[str]]) -> np.dtype:
    """One point, as a numpy record."""
    names, kinds = header.get("FIELDS", []), header.get("TYPE", [])
    sizes, counts = header.get("SIZE", []), header.get("COUNT", ["1"] * len(names))
    if not {"x", "y", "z"} <= {*names} or not len(names) == len(kinds) == len(sizes) == len(counts) <= _MAX_FIELDS:
        raise ValueError(
            f"has the fields {' '.join(names)[:60]!r} with {len(kinds)} types, {len(sizes)} sizes and {len(counts)} counts; "
            "expected x, y, z and one of each for every field"
        )
    fields: list[tuple] = []
    for place, (name, kind, size, count) in enumerate(zip(names, kinds, sizes, counts, strict=True)):
        known = _TYPES.get(kind, {}).get(int(size) if size.isdecimal() else 0)
        if known is None or not count.isdecimal() or not 1 <= int(count) <= _MAX_COUNT:
            raise ValueError(
                f"has the field {name[:40]!r} of type {kind!r}, size {size!r}, count {count!r}; expected numbers"
            )
        unique = (
            f"{name}#{place}" if name in names[:place] or name == "_" else name
        )  # PCL pads with fields of the name _
        if name in _PACKED and known[1] == "4":
            known = "u4"  # also where it says F: the bits of red, green and blue
        fields.append((unique, f"<{known}", (int(count),)))
    return np.dtype(fields)


def _count(header: dict[str, list[str]]) -> int:
    words = header.get("POINTS") or header.get("WIDTH") or []
    if len(words) != 1 or not re.fullmatch(r"\d{1,18}", words[0]):
        raise ValueError(f"says POINTS {' '.join(words)[:40]!r}; expected how many there are")
    return int(words[0])


def _read_text(path: Path, start: int, row: np.dtype, count: int) -> NDArray:
    with open(path, "rb") as file:
        file.seek(start)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows = np.loadtxt(file, np.float64, comments=None, max_rows=count, ndmin=2)
        except ValueError as error:
            reason = str(error).partition(";")[0]
            raise ValueError(
                f"has text that is no table of numbers ({reason}); the file is cut short or broken"
            ) from error
    names = row.names or ()
    widths = [int(np.prod(row[name].shape, dtype=int)) for name in names]
    if rows.shape != (count, sum(widths)):
        raise ValueError(
            f"declares {count:,} points of {sum(widths)} numbers, and {len(rows):,} of {rows.shape[1]} are there; "
            "the file is cut short or broken: fetch it again"
        )
    table, column = np.zeros(count, row), 0
    with np.errstate(all="ignore"):
        for name, width in zip(names, widths, strict=True):
            values = rows[:, column : column + width]
            if name in _PACKED and row[name].base == np.dtype("<u4"):  # whole numbers, or floats whose bits they are
                values = np.where(
                    np.abs(values) < 1, values.astype("<f4").view("<u4"), values.astype(np.int64) & 0xFFFFFFFF
                )
            table[name] = values
            column += width
    return table


def _read_compressed(path: Path, start: int, row: np.dtype, count: int) -> NDArray:
    with open(path, "rb") as file:
        file.seek(start)
        packed, unpacked = (int(size) for size in np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4"))
        check_count(count, row.itemsize, unpacked, "points")
        if unpacked > _MAX_UNPACKED or unpacked != count * row.itemsize:
            raise ValueError(
                f"unpacks to {unpacked:,} bytes for {count:,} points of {row.itemsize}; expected these, and at most "
                f"{_MAX_UNPACKED >> 20} MiB (save it as DATA binary)"
            )
        data = unpack_lzf(file.read(packed), unpacked)
    table, at = np.zeros(count, row), 0
    for name in row.names or ():
        size = count * row[name].itemsize
        base = row[name].base
        table[name] = np.frombuffer(data[at : at + size], base).reshape(count, -1)
        at += size
    return table


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """What an LZF stream unpacks to: runs of literal bytes, and references back into what was unpacked.

    Raises `ValueError` for a stream that is cut short, refers to before its beginning, or does not unpack to `size` bytes.
    """
    out, at = bytearray(), 0
    try:
        while at < len(packed) and len(out) < size:
            control = packed[at]
            at += 1
            if control < 32:
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            length, high = control >> 5, control & 31
            if length == 7:
                length, at = length + packed[at], at + 1
            back = (high << 8 | packed[at]) + 1
            at += 1
            first = len(out) - back
            if first < 0:
                raise ValueError("refers to before its beginning")
            run = out[first : first + length + 2]
            out += (run * -(-(length + 2) // len(run)))[: length + 2]  # where it reaches into itself, it repeats
    except IndexError:
        raise ValueError("has compressed points that are cut short; fetch the file again") from None
    except ValueError as error:
        raise ValueError(f"has compressed points that are broken ({error}); fetch the file again") from error
    if len(out) != size:
        raise ValueError(
            f"has compressed points of {len(out):,} bytes; expected {size:,}: the file is cut short or broken"
        )
    return bytes(out)


def _colours(table: NDArray) -> NDArray | None:
    """``(N, 3)`` in 0..1, from the bits of `rgb` or `rgba`, or from the fields r, g, b."""
    names = table.dtype.names or ()
    for name in _PACKED:
        if name in names and table[name].dtype == np.dtype("<u4"):
            bits = table[name][:, 0]
            return np.stack([bits >> shift & 255 for shift in (16, 8, 0)], axis=1) / np.float32(255)
    if {*"rgb"} <= {*names}:
        values = np.stack([table[name][:, 0] for name in "rgb"], axis=1)
        return values / np.float32(255) if values.max(initial=0) > 1 else values.astype(np.float32)
    return None
