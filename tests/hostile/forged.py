"""Bytes of safetensors files, pickles and torch archives, put together without the libraries that write honest ones."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

MARK, STOP, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE = b"(", b".", b"}", b"]", b")"
TUPLE, SETITEMS, REDUCE, NEWFALSE, BINPERSID = b"t", b"u", b"R", b"\x89", b"Q"
PROTOCOL = b"\x80\x02"

_LEGACY_HEADER = PROTOCOL + b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + PROTOCOL + b"M\xe9\x03."
"""Magic number and protocol version of torch's format of before archives."""


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """A file of a size that takes no room on the disk: `head`, then zeros."""
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
    return path


# safetensors


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    """A file with this header, of whatever it consists."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def nerf_safetensors(metadata: object, **shapes: tuple[int, ...]) -> bytes:
    """A file of ours with float32 zeros of these shapes (``mlp``, ``table``, ``planes``) and this architecture."""
    names = {"mlp": "mlp_base.params", "table": "encoding.params", "planes": "triplane"}
    header: dict[str, object] = {}
    end = 0
    for short, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[names[short]] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    header["__metadata__"] = {"nerf_architecture": text}
    return safetensors_bytes(header, bytes(end))


# Pickles


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<I", len(raw)) + raw


def pair(*items: bytes) -> bytes:
    """A tuple of these values."""
    return MARK + b"".join(items) + TUPLE


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def called(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + pair(*arguments) + REDUCE


def mapping(items: Mapping[str, bytes]) -> bytes:
    return EMPTY_DICT + MARK + b"".join(text(key) + value for key, value in items.items()) + SETITEMS


def storage(elements: int, *, key: str = "0", kind: str = "FloatStorage") -> bytes:
    """A storage of the archive, which is what a persistent id means."""
    return pair(text("storage"), named("torch", kind), text(key), text("cpu"), integer(elements)) + BINPERSID


def legacy_storage(elements: int, *, key: str = "0") -> bytes:
    none = b"N"
    kind = named("torch", "FloatStorage")
    return pair(text("storage"), kind, text(key), text("cpu"), integer(elements), none) + BINPERSID


def tensor(
    shape: Iterable[int],
    *,
    elements: int,
    strides: Iterable[int] | None = None,
    stored: bytes | None = None,
    offset: int = 0,
) -> bytes:
    """A tensor of a shape over a storage of so many elements."""
    shape = tuple(shape)
    steps = []
    step = 1
    for length in reversed(shape):
        steps.insert(0, step)
        step *= max(length, 1)
    return called(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage(elements) if stored is None else stored,
        integer(offset),
        pair(*map(integer, shape)),
        pair(*map(integer, steps if strides is None else strides)),
        NEWFALSE,
        called("collections", "OrderedDict"),
    )


def pickled(value: bytes) -> bytes:
    return PROTOCOL + value + STOP


# Archives


def archive(
    path: Path, pickle: bytes, storages: Mapping[str, bytes] | None = None, *, deflate: bool = False, **members: bytes
) -> Path:
    """A torch.save archive around a pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", pickle)
        file.writestr("archive/byteorder", "little")
        for key, content in (storages or {}).items():
            file.writestr(f"archive/data/{key}", content)
        file.writestr("archive/version", "3\n")
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return path


def legacy(path: Path, pickle: bytes, rest: bytes = b"") -> Path:
    """The format of before archives: magic number, version, system, then the pickle and what follows it."""
    system = pickled(mapping({"protocol_version": integer(1001), "little_endian": b"\x88"}))
    return written(path, _LEGACY_HEADER + system + pickle + rest)


def raw_archive(path: Path, members: Iterable[tuple[str, bytes, int, int]], *, overlapping: bool = False) -> Path:
    """A zip of members ``(name, deflated bytes, CRC, unpacked size)``, or of one set of bytes that all names share."""
    body, central, count, first = b"", b"", 0, None
    for name, packed, crc, size in members:
        encoded = name.encode()
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, crc, len(packed), size, len(encoded), 0)
        if not overlapping or first is None:
            first = len(body)
            body += b"PK\x03\x04" + fields + encoded + packed
        central += b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, first) + encoded
        count += 1
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(central), len(body), 0)
    return written(path, body + central + end)


def deflated_zeros(size: int) -> tuple[bytes, int, int]:
    """Zeros for `raw_archive`: a thousandth of them on the disk."""
    content = bytes(size)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(), zlib.crc32(content), size


def deflated(content: bytes) -> tuple[bytes, int, int]:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(), zlib.crc32(content), len(content)
