"""Embeddings: `.npy`, `.npz`, `.h5`, `.safetensors`. HDF5 is written by h5py: its files have no shape worth forging by hand."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

from .forged import deflated_zeros, raw_archive, safetensors_bytes, sparse, written
from .registry import hostile


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


@hostile("embeddings")
def npy_of_terabytes(folder: Path) -> Path:
    return written(folder / "bad.npy", _npy(_header("(1000000000000,)")))


@hostile("embeddings")
def npy_of_a_hole(folder: Path) -> Path:
    return sparse(folder / "bad.npy", 8 << 30, _npy(_header("(2000000000,)")))


@hostile("embeddings")
def npy_of_4000_digits(folder: Path) -> Path:
    return written(folder / "bad.npy", _npy(_header(f"({10**4000},)")))


@hostile("embeddings")
def npy_of_brackets(folder: Path) -> Path:
    return written(folder / "bad.npy", _npy("(" * 5000 + ")" * 5000))


@hostile("embeddings")
def npy_of_objects(folder: Path) -> Path:
    return written(folder / "bad.npy", _npy(_header("(1,)", "'|O'"), b"cposix\nsystem\n(S'true'\ntR."))


@hostile("embeddings")
def npy_of_wide_values(folder: Path) -> Path:
    return written(folder / "bad.npy", _npy(_header("(1,)", "'|V2000000000'")))


@hostile("embeddings")
def npy_of_fields(folder: Path) -> Path:
    return written(folder / "bad.npy", _npy(_header("(1,)", "[('a', '<f4', (1000000000,))]"), bytes(4)))


@hostile("embeddings")
def npy_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "bad.npy")
    return folder / "bad.npy"


def _npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@hostile("embeddings")
def npz_of_terabytes(folder: Path) -> Path:
    return _npz(folder / "bad.npz", embeddings=_npy(_header("(1000000000, 1024)")))


@hostile("embeddings")
def npz_bomb(folder: Path) -> Path:
    """1 GiB of zeros after a header that says so, deflated."""
    size = 1 << 30
    packed, crc, unpacked = deflated_zeros(size)
    return raw_archive(folder / "bad.npz", [("embeddings.npy", packed, crc, unpacked)])


@hostile("embeddings")
def npz_of_overlapping_members(folder: Path) -> Path:
    zeros = deflated_zeros(64 << 20)
    names = ("embeddings", "indices", "paths", "class_ids", "nerf_ids", "hashes", "encoder")
    return raw_archive(folder / "bad.npz", ((f"{name}.npy", *zeros) for name in names * 20), overlapping=True)


@hostile("embeddings")
def npz_of_objects(folder: Path) -> Path:
    return _npz(folder / "bad.npz", embeddings=_npy(_header("(1,)", "'|O'"), b"cposix\nsystem\n(S'true'\ntR."))


@hostile("embeddings")
def npz_of_wide_texts(folder: Path) -> Path:
    values = _npy(_header("(1, 2)"), bytes(8))
    return _npz(folder / "bad.npz", embeddings=values, paths=_npy(_header("(1,)", "'<U500000000'")))


@hostile("embeddings")
def safetensors_of_brackets(folder: Path) -> Path:
    header = {
        "embeddings": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "__metadata__": {"llana_gmn_embeddings": "[" * 200_000},
    }
    return written(folder / "bad.safetensors", safetensors_bytes(header, bytes(8)))


def _set_of(folder: Path, dtype: str, bits: int) -> Path:
    about = '{"paths": [""], "class_ids": ["a"], "nerf_ids": ["b"]}'
    header = {
        "embeddings": {"dtype": dtype, "shape": [1, 16], "data_offsets": [0, 2 * bits]},
        "__metadata__": {"llana_gmn_embeddings": about},
    }
    return written(folder / "bad.safetensors", safetensors_bytes(header, b"\x11" * 2 * bits))


@hostile("embeddings")
def safetensors_of_float8(folder: Path) -> Path:
    return _set_of(folder, "F8_E4M3", 8)


@hostile("embeddings")
def safetensors_of_float4(folder: Path) -> Path:
    return _set_of(folder, "F4", 4)


@hostile("embeddings")
def safetensors_of_integers(folder: Path) -> Path:
    return _set_of(folder, "I64", 64)


@hostile("embeddings")
def h5_without_data(folder: Path) -> Path:
    """2^40 numbers that were never written, which read as zeros."""
    import h5py

    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset("embedding", shape=(1 << 40,), dtype="f4", chunks=(1024,))
    return folder / "bad.h5"


@hostile("embeddings")
def h5_of_large_chunks(folder: Path) -> Path:
    """A chunk of 2 GiB for 16 numbers."""
    import h5py

    with h5py.File(folder / "bad.h5", "w") as file:
        options = {"chunks": (1 << 29,), "maxshape": (None,), "compression": "gzip"}
        file.create_dataset("embedding", shape=(16,), dtype="f4", **options)
    return folder / "bad.h5"


@hostile("embeddings")
def h5_virtual(folder: Path) -> Path:
    """A dataset put together from another file."""
    import h5py

    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = [0.0] * 16
    layout = h5py.VirtualLayout(shape=(1 << 38,), dtype="f4")
    layout[:16] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(16,))
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_virtual_dataset("embedding", layout)
    return folder / "bad.h5"


@hostile("embeddings")
def h5_of_other_files(folder: Path) -> Path:
    """Numbers that lie in /etc/passwd."""
    import h5py

    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset("embedding", shape=(16,), dtype="f4", external=[("/etc/passwd", 0, 64)])
    return folder / "bad.h5"


@hostile("embeddings")
def h5_link_outside(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "other.h5", "w") as file:
        file["embedding"] = [0.0] * 16
    with h5py.File(folder / "bad.h5", "w") as file:
        file["embedding"] = h5py.ExternalLink(str(folder / "other.h5"), "/embedding")
    return folder / "bad.h5"


@hostile("embeddings")
def h5_link_to_itself(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "bad.h5", "w") as file:
        file["embedding"] = h5py.SoftLink("/embedding")
    return folder / "bad.h5"


@hostile("embeddings")
def h5_group(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_group("embedding")
    return folder / "bad.h5"


@hostile("embeddings")
def h5_cut_short(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "whole.h5", "w") as file:
        file["embedding"] = [0.5] * 1024
    content = (folder / "whole.h5").read_bytes()
    return written(folder / "bad.h5", content[: len(content) // 2])
