"""SPZ files, versions 1 to 4 (Niantic's format): packed splats, y up.

Versions 1 to 3 are one gzip stream: a header of 16 bytes, then positions, opacities, colours, scales, rotations and harmonics,
each of all splats. Version 4 has a plain header of 32 bytes, a table of the packed and plain sizes of six streams, and those
streams, packed with Zstandard (extra `foreign`).

Limits: no stream may unpack to more than a thousand times its size, which no real splats do and bombs have to.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....extras import require
from .record import COEFFICIENTS, UP_Y, Splats, check_count, exp, make_splats, quaternions_from_three

_MAGIC = b"NGSP"
_GZIP = b"\x1f\x8b"
_RATIO = 1032  # the most that deflate can do
_HEADER, _HEADER_4 = 16, 32
_COLOUR_SCALE = 0.15


@dataclass(frozen=True)
class _Header:
    """The head of a file: `bits` is the number of binary places of positions."""

    version: int
    count: int
    degree: int
    bits: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes a splat of positions, opacity, colour, scales, rotation, harmonics."""
        rest = 3 * (COEFFICIENTS[self.degree] - 1)
        return (6 if self.version == 1 else 9, 1, 3, 3, 3 if self.version < 3 else 4, rest)


def is_spz(head: bytes) -> bool:
    """Whether a file begins as SPZ, plain or through gzip."""
    if head.startswith(_GZIP):
        try:
            return zlib.decompressobj(wbits=31).decompress(head, len(_MAGIC)) == _MAGIC
        except zlib.error:
            return False
    return head.startswith(_MAGIC)


def read_spz(path: Path) -> Splats:
    """The splats of an SPZ file.

    Raises:
        ValueError: an unknown version or degree, cut short, or sizes that do not fit together.
        ImportError: version 4 without the package zstandard.
    """
    packed = path.read_bytes()
    if packed.startswith(_GZIP):
        header, streams = _read_gzip(packed)
    else:
        header, streams = _read_version_4(packed)
    return _decode(header, streams)


def _header(head: bytes) -> _Header:
    if len(head) < _HEADER or not head.startswith(_MAGIC):
        raise ValueError("does not begin with the header of SPZ; the file is cut short or broken: fetch it again")
    version, count, degree, bits = struct.unpack_from("<IIBB", head, 4)
    if not 1 <= version <= 4:
        raise ValueError(f"is SPZ of version {version}; expected 1 to 4")
    if degree >= len(COEFFICIENTS):
        raise ValueError(f"has spherical harmonics of degree {degree}; expected 0 to 3")
    if bits > 23:
        raise ValueError(f"has positions with {bits} binary places of 24; expected at most 23")
    return _Header(version, count, degree, bits)


def _read_gzip(packed: bytes) -> tuple[_Header, list[bytes]]:
    try:
        header = _header(zlib.decompressobj(wbits=31).decompress(packed, _HEADER))
        if header.version > 3:
            raise ValueError(f"is SPZ of version {header.version} through gzip; expected 1 to 3")
        check_count(header.count, sum(header.sizes), _RATIO * len(packed))
        expected = _HEADER + header.count * sum(header.sizes)
        content = zlib.decompressobj(wbits=31).decompress(packed, expected)  # extensions may follow
    except zlib.error as error:
        raise ValueError(f"is no gzip stream, or broken ({error}): fetch it again") from error
    if len(content) != expected:
        raise ValueError(
            f"holds {len(content):,} of the {expected:,} bytes of {header.count:,} splats in version {header.version}; "
            "the file is cut short or broken: fetch it again"
        )
    streams, at = [], _HEADER
    for size in header.sizes:
        streams.append(content[at : at + header.count * size])
        at += header.count * size
    return header, streams


def _read_version_4(packed: bytes) -> tuple[_Header, list[bytes]]:
    header = _header(packed[:_HEADER])
    if header.version != 4 or len(packed) < _HEADER_4:
        raise ValueError(
            f"is SPZ of version {header.version} without gzip, or cut short; expected version 4: fetch it again"
        )
    number, at = packed[15], struct.unpack_from("<I", packed, 16)[0]
    sizes = [size for size in header.sizes if size]
    data = at + 16 * number
    if number < len(sizes) or number > 64 or at < _HEADER_4 or data > len(packed):
        raise ValueError(f"has a table of {number} streams at byte {at}; expected {len(sizes)}: the file is broken")
    check_count(header.count, sum(sizes), _RATIO * len(packed))
    streams = []
    for index, size in enumerate(sizes):
        length, plain = struct.unpack_from("<QQ", packed, at + 16 * index)
        if data + length > len(packed) or plain != header.count * size or plain > _RATIO * (length + 64):
            raise ValueError(
                f"has a stream of {plain:,} bytes packed into {length:,}; expected {header.count * size:,} bytes for "
                f"{header.count:,} splats: the file is cut short or broken"
            )
        streams.append(_unpack_zstandard(packed[data : data + length], plain))
        data += length
    return header, streams + [b""] * (len(header.sizes) - len(sizes))


def _unpack_zstandard(packed: bytes, expected: int) -> bytes:
    """Read in pieces: a stream's own word for its size is not taken."""
    zstandard: Any = require("zstandard", "foreign")
    pieces, left = [], expected + 1
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as reader:
            while left and (piece := reader.read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
    except zstandard.ZstdError as error:
        raise ValueError(f"has a stream that is no Zstandard, or broken ({error}): fetch it again") from error
    if left != 1:
        raise ValueError(f"has a stream of other than its {expected:,} bytes; the file is cut short or broken")
    return b"".join(pieces)


def _decode(header: _Header, streams: Sequence[bytes]) -> Splats:
    values = [np.frombuffer(stream, np.uint8).reshape(header.count, -1) for stream in streams]
    positions, opacities, colours, scales, rotations, rest = values
    harmonics = np.empty((header.count, COEFFICIENTS[header.degree], 3), np.float32)
    harmonics[:, 0] = (colours / np.float32(255) - 0.5) / _COLOUR_SCALE
    harmonics[:, 1:] = (rest.reshape(header.count, -1, 3) - np.float32(128)) / 128
    return make_splats(
        f"Gaussian splats (.spz, version {header.version})",
        means=_half_positions(streams[0]) if header.version == 1 else _fixed_positions(positions, header.bits),
        scales=exp(scales / np.float32(16) - 10),
        rotations=(_three_bytes if header.version < 3 else _smallest_three)(rotations),
        opacities=opacities[:, 0] / np.float32(255),
        harmonics=harmonics,
        up=UP_Y,
    )


def _half_positions(stream: bytes) -> NDArray[np.float32]:
    return np.frombuffer(stream, "<f2").reshape(-1, 3).astype(np.float32)


def _fixed_positions(packed: NDArray[np.uint8], bits: int) -> NDArray[np.float32]:
    """Three signed integers of 24 bits, lowest byte first."""
    parts = packed.reshape(-1, 3, 3).astype(np.int32)
    whole = parts[..., 0] | parts[..., 1] << 8 | parts[..., 2] << 16
    return (np.where(whole >= 1 << 23, whole - (1 << 24), whole) / np.float32(1 << bits)).astype(np.float32)


def _three_bytes(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Quaternions w, x, y, z of which x, y, z are stored and w is not negative."""
    others = packed / np.float32(127.5) - 1
    return quaternions_from_three(others, np.zeros(len(packed), np.int64))


def _smallest_three(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """2 bits for the place of the largest among x, y, z, w; sign and 9 bits for each of the others, the last one lowest."""
    words = packed.copy().view("<u4")[:, 0]
    fields = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], axis=1)
    sizes = (fields & 511) * np.float32(np.sqrt(0.5) / 511)
    xyzw = quaternions_from_three(np.where(fields >> 9 & 1, -sizes, sizes), words >> 30)
    return xyzw[:, [3, 0, 1, 2]]
