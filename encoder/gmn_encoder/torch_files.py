"""Files of `torch.save`, before torch opens them: archives and the older format, and whether they have what they announce.

torch takes memory for what a file says: a deflated member of gigabytes, a storage of the older format before its bytes are read.
`check_torch_file` compares sizes with the file first, and sends the pickle through `pickles.Walk`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from typing import BinaryIO

import torch

from .pickles import Outline, PickleError, Walk

MAX_PICKLE_BYTES = 64 << 20
"""A pickle holds names and numbers; the weights are beside it. Checkpoints of large models have a megabyte."""

MAX_INFLATION = 256 << 20
"""Bytes by which an archive's members may be larger than the file: occupancy grids are deflated, weights hardly shrink."""

MAX_MEMBERS = 100_000
"""Members of an archive, one for each storage."""

_MAX_DIRECTORY = 64 << 20
_ZIP, _END = b"PK\x03\x04", b"PK\x05\x06"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number that the format of before archives begins with."""


def check_torch_file(file: BinaryIO, *, extra: Collection[str] = ()) -> Outline:
    """Check that `torch.load(file, weights_only=True)` makes plain values, and takes no more memory than the file has bytes.

    Of the tensors themselves nothing is read.

    Args:
        file: the file, seekable; left at its start.
        extra: names that a pickle may call besides torch's own, `NUMPY_NUMBERS`.

    Returns:
        the keys of the dict in the file, and of the dicts in that.

    Raises:
        PickleError: it asks for code, for other objects, or for memory that nothing in the file fills; or it is no such file.
        OSError: it cannot be read.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(len(_LEGACY))
    if head.startswith(_ZIP):
        sizes, pickle = _members(file, size)
        walk = Walk(extra)
        for each in walk.walk(io.BytesIO(pickle)):
            if each.nbytes > sizes.get(each.key, -1):
                raise PickleError(
                    f"is cut short: it has {sizes.get(each.key, 0):,} of {each.nbytes:,} bytes of a tensor"
                )
        outline = walk.outline
    else:
        file.seek(0)
        outline = _check_legacy(file, size, whole=head == _LEGACY, extra=extra)
    file.seek(0)
    return outline


def _check_legacy(file: BinaryIO, size: int, *, whole: bool, extra: Collection[str]) -> Outline:
    """The five pickles of the older format: number, version, system, content, names of the storages that follow."""
    pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    walk, outlines = Walk(extra), []
    for _ in range(5 if whole else 1):
        walk.walk(pickles)
        outlines.append(walk.outline)
    if not whole:
        raise PickleError("is a pickle that torch.save did not write; expected a plain dict of tensors")
    total = sum({each.key: each.nbytes for each in walk.storages}.values())
    if total > size - pickles.tell():
        raise PickleError(f"is cut short: its tensors take {total:,} bytes, and {size - pickles.tell():,} are there")
    return outlines[3]


def _members(file: BinaryIO, size: int) -> tuple[dict[str, int], bytes]:
    """Unpacked bytes of each storage in an archive, and its pickle."""
    _check_end(file, size)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > size + MAX_INFLATION:
        raise PickleError(
            f"unpacks from {size / 2**20:,.1f} to {total / 2**20:,.0f} MiB; "
            f"expected at most {MAX_INFLATION >> 20} MiB more than the file has"
        )
    sizes = {member.filename.partition("/")[2]: member.file_size for member in members}
    if len(sizes) != len({name.casefold() for name in sizes}) or len(sizes) != len(members):
        raise PickleError("is an archive with two members of one name; expected one that torch.save wrote")
    if sizes.get("data.pkl", 0) > MAX_PICKLE_BYTES:
        raise PickleError(
            f"has a pickle of {sizes['data.pkl'] / 2**20:,.0f} MiB; expected at most {MAX_PICKLE_BYTES >> 20} MiB"
        )
    file.seek(0)
    # torch's own reader: what is checked is what torch will see.
    pickle = torch._C.PyTorchFileReader(file).get_record("data.pkl")
    return {name.removeprefix("data/"): n for name, n in sizes.items() if name.startswith("data/")}, pickle


def _check_end(file: BinaryIO, size: int) -> None:
    """Look at the record that an archive ends with before anything of what it says is read."""
    file.seek(max(size - 22, 0))
    end = file.read(22)
    if len(end) < 22 or not end.startswith(_END) or end[20:] != b"\0\0":
        raise PickleError("is no torch.save file, or cut short (the archive has no end)")
    count, directory = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if size >= 98:
        file.seek(size - 98)
        before = file.read(76)  # of archives with long offsets, which torch always writes
        if before[56:60] == b"PK\x06\x07":
            position = int.from_bytes(before[64:72], "little")
            if position != size - 98 or not before.startswith(b"PK\x06\x06"):
                raise PickleError("is no torch.save file, or cut short (the archive's end is not where it says)")
            count, directory = int.from_bytes(before[32:40], "little"), int.from_bytes(before[40:48], "little")
    if count > MAX_MEMBERS or directory > _MAX_DIRECTORY:
        raise PickleError(f"is an archive of {count:,} members; expected at most {MAX_MEMBERS:,}")
