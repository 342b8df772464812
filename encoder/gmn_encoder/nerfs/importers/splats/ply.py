"""PLY files: the header and tables of numbers, with the counts compared to the file's size before anything is read.

Own code, as the readers that there are allocate what a header claims and follow a header that does not end. Elements whose rows
differ in length (faces) are skipped where they stand last and refused where they stand before what is wanted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .record import check_count

MAGIC = (b"ply\n", b"ply\r")

_HEADER = 1 << 16
_MAX_PROPERTIES = 1000
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


@dataclass(frozen=True)
class PlyElement:
    """A table that a header declares.

    Attributes:
        name: such as "vertex".
        count: number of rows.
        properties: names and numpy types of the columns, in the file's order.
        ragged: whether rows have lists, and with them no fixed length.
    """

    name: str
    count: int
    properties: Mapping[str, str]
    ragged: bool


@dataclass(frozen=True)
class PlyHeader:
    """What the header says.

    Attributes:
        order: byte order of binary files, "<" or ">"; "=" for text.
        elements: the tables, in the file's order.
        comments: the comments.
        end: bytes of the header, behind which the tables begin.
    """

    order: str
    elements: tuple[PlyElement, ...]
    comments: tuple[str, ...]
    end: int

    def element(self, name: str) -> PlyElement | None:
        return next((each for each in self.elements if each.name == name), None)

    @property
    def text(self) -> bool:
        return self.order == "="


def read_header(path: Path) -> PlyHeader:
    """The header of a PLY file. Raises `ValueError` where it is broken, longer than 64 KiB, or does not end."""
    with open(path, "rb") as file:
        return parse_header(file.read(_HEADER))


def parse_header(head: bytes) -> PlyHeader:
    """The header at the beginning of a PLY file, from its first bytes. Raises `ValueError` as `read_header`."""
    if not head.startswith(MAGIC):
        raise ValueError("does not begin as a PLY file; expected the line ply")
    newline = b"\r\n" if head[3:5] == b"\r\n" else head[3:4]
    stop = head.find(newline + b"end_header" + newline)
    if stop < 0:
        raise ValueError("has a PLY header without an end in its first 64 KiB; expected end_header")
    order, comments, elements = "", [], []
    for line in head[:stop].decode("latin-1").split(newline.decode())[1:]:
        words = line.split()
        if not words or words[0] == "obj_info":
            continue
        if words[0] == "comment":
            comments.append(" ".join(words[1:]))
        elif words[0] == "format" and len(words) == 3 and words[1] in _ORDERS:
            order = _ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and re.fullmatch(r"\d{1,18}", words[2]):
            elements.append(PlyElement(words[1], int(words[2]), {}, False))
        elif words[0] == "property" and elements:
            elements[-1] = _with_property(elements[-1], words)
        else:
            raise ValueError(f"has {line.strip()[:60]!r} in its PLY header; expected format, element or property")
    if not order:
        raise ValueError("says no format in its PLY header; expected ascii or a binary one")
    return PlyHeader(order, tuple(elements), tuple(comments), stop + 2 * len(newline) + len(b"end_header"))


def _with_property(element: PlyElement, words: Sequence[str]) -> PlyElement:
    ragged = element.ragged or words[1:2] == ["list"]
    kinds, name = words[2:-1] if words[1:2] == ["list"] else words[1:-1], words[-1]
    if len(words) != (5 if words[1:2] == ["list"] else 3) or any(kind not in _TYPES for kind in kinds):
        raise ValueError(f"has the property {' '.join(words[1:])[:60]!r}; expected a type of PLY and a name")
    if name in element.properties or len(element.properties) >= _MAX_PROPERTIES:
        raise ValueError(f"names {name[:60]!r} twice in {element.name}, or has over {_MAX_PROPERTIES} properties")
    return PlyElement(element.name, element.count, {**element.properties, name: _TYPES[kinds[-1]]}, ragged)


def read_elements(path: Path, header: PlyHeader, names: Sequence[str]) -> dict[str, NDArray]:
    """Tables of a PLY file as structured arrays, by name.

    Args:
        path: the file.
        header: its header.
        names: tables that it has, by name.

    Raises:
        ValueError: more rows than the file has bytes for, rows without a fixed length before the last table that is wanted,
            or text that is no table of numbers.
    """
    last = max(index for index, each in enumerate(header.elements) if each.name in names)
    wanted = header.elements[: last + 1]
    if header.text:
        return _read_text(path, header, wanted, names)
    result, at, size = {}, header.end, path.stat().st_size
    for element in wanted:
        kind = _row(element, header.order)
        if element.name in names:
            check_count(element.count, kind.itemsize, size - at, f"rows of {element.name}")
            result[element.name] = np.fromfile(path, kind, element.count, offset=at)
        at += element.count * kind.itemsize
    return result


def _row(element: PlyElement, order: str) -> np.dtype:
    if element.ragged or not element.properties:
        raise ValueError(f"has lists, or nothing, in {element.name}, before what is to be read; expected numbers alone")
    return np.dtype([(name, order + kind) for name, kind in element.properties.items()])


def _read_text(path: Path, header: PlyHeader, wanted: Sequence[PlyElement], names: Sequence[str]) -> dict[str, NDArray]:
    result, left = {}, path.stat().st_size - header.end
    with open(path, "rb") as file:
        file.seek(header.end)
        for element in wanted:
            kind, width = _row(element, "="), len(element.properties)
            check_count(element.count, 2 * width - 1 / 2, left, f"rows of {element.name}")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about empty lines, or nothing at all
                    rows = np.loadtxt(file, np.float64, comments=None, max_rows=element.count, ndmin=2)
            except ValueError as error:
                reason = str(error).partition(";")[0]
                raise ValueError(
                    f"has text that is no table of numbers in {element.name} ({reason}); the file is cut short or broken"
                ) from error
            if rows.shape != (element.count, width):
                raise ValueError(
                    f"declares {element.count:,} rows of {width} numbers in {element.name}, and {len(rows):,} rows of "
                    f"{rows.shape[1]} are there; the file is cut short or broken: fetch it again"
                )
            if element.name in names:
                table = np.empty(element.count, kind)
                with np.errstate(all="ignore"):
                    for column, name in enumerate(element.properties):
                        table[name] = rows[:, column]
                result[element.name] = table
    return result


def columns(table: NDArray, names: Sequence[str]) -> NDArray[np.float32]:
    """Columns of a structured array as one float32 ``(rows, names)``."""
    result = np.empty((len(table), len(names)), np.float32)
    with np.errstate(all="ignore"):  # a double beyond float32 becomes infinite, which is looked at later
        for column, name in enumerate(names):
            result[:, column] = table[name]
    return result
