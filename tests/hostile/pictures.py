"""PNG files, byte by byte: what they claim, and how much of it is there."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int, *, rows: int | None = None) -> bytes:
    """A black and white PNG, one bit a pixel, all black; only `rows` of it are there, all if left out."""
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(bytes(1 + (width + 7) // 8)) for _ in range(height if rows is None else rows))
    data += packed.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
