"""Occupancy grids, and data sets of NeRFs."""

from __future__ import annotations

import struct
from pathlib import Path

from .forged import archive, called, integer, mapping, pair, pickled, storage, tensor, text, written
from .registry import hostile


def _sparse(shape: tuple[int, ...], indices: list[int]) -> bytes:
    layout = called("torch.serialization", "_get_layout", text("torch.sparse_coo"))
    index = tensor([len(shape), 1], elements=len(shape), stored=storage(len(shape), key="1", kind="LongStorage"))
    size = called("torch", "Size", pair(*map(integer, shape)))
    value = tensor([1], elements=1, stored=storage(1, key="0", kind="BoolStorage"))
    return called("torch._utils", "_rebuild_sparse_tensor", layout, pair(index, value, size, b"\x88"))


def _grid(folder: Path, shape: tuple[int, ...], indices: list[int]) -> Path:
    storages = {"0": b"\1", "1": struct.pack(f"<{len(indices)}q", *indices)}
    return archive(folder / "bad.pth", pickled(mapping({"_binary": _sparse(shape, indices)})), storages)


@hostile("occupancy")
def grid_of_exabytes(folder: Path) -> Path:
    return _grid(folder, (1 << 20, 1 << 20, 1 << 20), [0, 0, 0])


@hostile("occupancy")
def voxel_outside(folder: Path) -> Path:
    return _grid(folder, (96, 96, 96), [0, 0, 10**12])


@hostile("occupancy")
def negative_voxel(folder: Path) -> Path:
    return _grid(folder, (96, 96, 96), [0, 0, -(10**12)])


@hostile("occupancy")
def grid_of_one_number(folder: Path) -> Path:
    wide = tensor([1024, 1024, 1024], strides=[0, 0, 0], elements=1)
    return archive(folder / "bad.pth", pickled(mapping({"_binary": wide})), {"0": bytes(4)})


@hostile("occupancy")
def grid_of_a_number(folder: Path) -> Path:
    return archive(folder / "bad.pth", pickled(mapping({"_binary": integer(10**30)})))


@hostile("dataset")
def list_that_leads_outside(folder: Path) -> Path:
    for family in ("mlp", "hash"):
        (folder / "bad-data" / family).mkdir(parents=True)
    for split in ("train", "val", "test"):
        written(folder / "bad-data" / f"{split}.txt", b"../../etc/passwd\n")
    return folder / "bad-data"


@hostile("dataset")
def list_of_bytes(folder: Path) -> Path:
    for family in ("mlp", "hash"):
        (folder / "bad-data" / family).mkdir(parents=True)
    for split in ("train", "val", "test"):
        written(folder / "bad-data" / f"{split}.txt", bytes(range(256)) * 100)
    return folder / "bad-data"


@hostile("dataset")
def list_of_strangers(folder: Path) -> Path:
    """50,000 objects that are not there."""
    for family in ("mlp", "hash"):
        (folder / "bad-data" / family).mkdir(parents=True)
    for split in ("train", "val", "test"):
        written(folder / "bad-data" / f"{split}.txt", b"".join(b"chair/%d\n" % i for i in range(50_000)))
    return folder / "bad-data"
