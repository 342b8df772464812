"""Arrays in ``.npy``, ``.npz`` and ``.h5`` files from outside: what they say of their sizes is compared with the file first.

numpy takes memory for the shape that a header says, an archive's members may be deflated, and a dataset of HDF5 may lie in other
files, be put together from them, or be filled by one number. Only the arrays that are asked for are looked at.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..files import brief
from ..torch_files import MAX_INFLATION

MAX_VALUES = 1 << 20
"""Of one NeRF's embedding; those of known encoders have 1,024."""

_MAX_ID = 4096
_MAX_CHUNK = 64 << 20
_NUMBERS, _TEXTS = "fiu", "US"


def read_npy(path: Path) -> np.ndarray:
    """The numbers in a ``.npy`` file, at most `MAX_VALUES`. Raises `ValueError` with what is wrong, or `OSError`."""
    with open(path, "rb") as file:
        return _read(file, os.fstat(file.fileno()).st_size, _NUMBERS, most=MAX_VALUES)


def read_npz(path: Path, numbers: Collection[str], texts: Collection[str]) -> dict[str, np.ndarray]:
    """Those arrays of a ``.npz`` file that are there among the named ones, and no others.

    Raises `ValueError` with what is wrong, `OSError`, or what `zipfile` raises for a broken archive.
    """
    found = {}
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        wanted = {f"{name}.npy": name for name in (*numbers, *texts)}
        members = [member for member in archive.infolist() if member.filename in wanted]
        size, total = os.fstat(file.fileno()).st_size, sum(member.file_size for member in members)
        if total > size + MAX_INFLATION:
            raise ValueError(f"unpacks from {size / 2**20:,.1f} to {total / 2**20:,.0f} MiB")
        for member in members:
            name = wanted[member.filename]
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is compressed in a way that numpy does not use")
            with archive.open(member) as stream:
                found[name] = _read(stream, member.file_size, _NUMBERS if name in numbers else _TEXTS)  # type: ignore[arg-type]
    return found


def _read(stream: BinaryIO, size: int, kinds: str, *, most: int | None = None) -> np.ndarray:
    """An array of some kinds of values out of `size` bytes."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"is of version {version} of numpy's format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream)
    except Exception as error:
        raise ValueError("has a header that numpy does not write") from error
    count = math.prod(shape)
    if dtype.kind not in kinds or not all(isinstance(each, int) and each >= 0 for each in shape):
        raise ValueError(f"has shape {brief(shape)} and values {brief(dtype)}")
    if count * dtype.itemsize > size or (most is not None and count > most):
        raise ValueError(f"says shape {brief(shape)}, for which the file is too small or which is no embedding's")
    content = stream.read(count * dtype.itemsize)
    values = np.frombuffer(content, dtype, count)
    return values.reshape(shape, order="F" if fortran else "C")


def read_h5(path: Path, number: str, texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A dataset of numbers in an ``.h5`` file, at most `MAX_VALUES`, and strings beside it.

    Raises `ValueError` with what is wrong, or what h5py raises for a broken file.
    """
    import h5py

    with h5py.File(path, "r") as file:
        for name in (number, *texts):
            link = file.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{name} is not in this file" if link is not None else f"there is no {name}")
            _check_dataset(file[name], name, is_text=name != number)
        return np.asarray(file[number], dtype=np.float32), [str(file[name].asstr()[()]) for name in texts]


def _check_dataset(dataset: Any, name: str, *, is_text: bool) -> None:
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} is no dataset of this file alone")
    most = 1 if is_text else MAX_VALUES
    kind = h5py.check_string_dtype(dataset.dtype) is not None if is_text else dataset.dtype.kind in _NUMBERS
    if not kind or dataset.shape is None or math.prod(dataset.shape) > most or dataset.dtype.itemsize > _MAX_ID:
        raise ValueError(f"{name} has shape {brief(dataset.shape)} and values {brief(dataset.dtype)}")
    if dataset.chunks is not None and math.prod(dataset.chunks) * dataset.dtype.itemsize > _MAX_CHUNK:
        raise ValueError(f"{name} is stored in chunks of {brief(dataset.chunks)}")
