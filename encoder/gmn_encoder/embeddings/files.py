"""Embeddings on disk: one NeRF's in a file, and whole sets.

    e.safetensors        tensors ``embeddings`` (n, D) and ``indices`` (n,); the rest in the metadata entry `EMBEDDINGS_KEY`
    e.npz                the same as arrays
    <family>/<split>/<index>.h5    the released layout; readers sort by the number (docs/released_format.md#embedding-files)
    vecs/<object_id>.npy           ShapeNeRF-Text's, flat or in sub-folders (#shapenerf-text)

The first three are written too; the first two also hold tokens, (n, N, D). What older files do not say (hashes) is "".

Shapes: n rows, N tokens, D embedding.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import SPLITS, ObjectId
from ..digests import Digests
from ..files import StrPath, parse_json, read_tensors, reason, write_bytes, write_safetensors
from ..nerfs.architectures import FAMILY_NAMES
from ..nerfs.files import WEIGHTS_NAME, weights_file
from ..progress import Progress, no_progress
from .arrays import read_h5, read_npy, read_npz
from .records import EmbeddingSet, family_of

EMBEDDINGS_KEY = "llana_gmn_embeddings"
"""Metadata entry of a ``.safetensors``: JSON with ``paths``, ``class_ids``, ``nerf_ids``, ``hashes`` and ``encoder``."""

VECS = "vecs"
"""Family of embeddings that nobody tells the architecture of."""

_ROWS = ("paths", "class_ids", "nerf_ids")
_READERS = 8


def is_embedding_file(path: StrPath) -> bool:
    """Whether a path names the embedding of one NeRF (``.npy``, ``.h5``), and not a NeRF."""
    return Path(path).suffix in (".npy", ".h5")


def read_embedding(path: StrPath, *, tokens: bool = False) -> Tensor:
    """The embedding in a ``.npy`` or ``.h5`` file of the released layouts, float32 ``(D,)`` on the CPU.

    Args:
        path: the file.
        tokens: whether a matrix in it is taken for the tokens of one NeRF, ``(N, D)``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, more than one embedding, or NaN.
    """
    path = Path(path)
    if path.suffix == ".h5":
        return _h5_datasets(path, ("embedding",), tokens=tokens)[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        values = read_npy(path).astype(np.float32)
    except Exception as error:  # numpy parses a header as Python does
        raise ValueError(f"{path}: holds no embedding ({reason(error)})") from error
    return _one_row(values, path, tokens=tokens)


def read_h5_embedding(path: StrPath) -> tuple[Tensor, str, str]:
    """Embedding ``(D,)``, class id and NeRF id of an ``.h5`` file of the released layout; errors as of `read_embedding`."""
    values, class_id, nerf_id = _h5_datasets(Path(path), ("embedding", "class_id", "nerf_id"))
    return values, class_id, nerf_id


def _h5_datasets(path: Path, names: Sequence[str], *, tokens: bool = False) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        values, texts = read_h5(path, "embedding", [name for name in names if name != "embedding"])
    except Exception as error:  # h5py raises whatever its library meets
        why = reason(error)
        raise ValueError(f"{path}: is no embedding ({why}); expected datasets {', '.join(names)}") from error
    return [_one_row(values, path, tokens=tokens), *texts]


def _one_row(values: np.ndarray, path: Path, *, tokens: bool) -> Tensor:
    row = torch.from_numpy(values)
    row = row[0] if row.ndim == 2 and len(row) == 1 else row
    if row.ndim not in ((1, 2) if tokens else (1,)) or not row.numel():
        raise ValueError(f"{path}: the embedding has shape {tuple(row.shape)}; expected one vector (D,)")
    if not bool(row.isfinite().all()):
        raise ValueError(f"{path}: the embedding has NaN or infinite values; embed the NeRF again")
    return row


def content_hash(path: StrPath, known: Digests | None = None) -> str:
    """SHA-256 of a NeRF's weights file, as hexadecimal digits: what its embedding depends on besides the encoder.

    Args:
        path: the NeRF.
        known: digests that are remembered.

    Raises `FileNotFoundError` where there is no file, `OSError` where it cannot be read.
    """
    return (known or Digests()).digest(weights_file(path))


def content_file(path: StrPath) -> Path:
    """The file that `content_hash` is of; one that is not there where there is none, or one too large to be a NeRF."""
    try:
        return weights_file(path)
    except OSError:
        return Path(path, WEIGHTS_NAME)


def content_hashes(
    paths: Sequence[StrPath], *, known: Digests | None = None, progress: Progress = no_progress
) -> list[str]:
    """`content_hash` of each path, "" where there is nothing to read. The files are read by several threads."""
    return (known or Digests()).digests(
        [content_file(path) for path in paths],
        progress=lambda _, done, total: progress("looking at NeRFs", done, total),
    )


def read_embeddings(path: StrPath, *, family: str | None = None) -> EmbeddingSet:
    """Embeddings from a ``.safetensors`` or ``.npz``, a directory of ``<index>.h5``, or one of ``<object_id>.npy``.

    Args:
        path: the file or directory.
        family: the family of all its rows; None: by the directories that the NeRFs were in, else by the name of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, without ids, empty, or with NaN.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or directory; expected embeddings as llana-gmn embed writes them"
        )
    about: dict[str, Any] = {}
    if path.is_dir():
        files = sorted((file for file in path.glob("*.h5") if file.stem.isdecimal()), key=lambda file: int(file.stem))
        if not files and next(path.rglob("*.npy"), None) is not None:
            return read_vecs(path, family=family or VECS)
        values, object_ids = _read_h5_files(files, path)
        own = path.parent.name if path.name in (*SPLITS, "validation") else path.name
    elif path.suffix in (".safetensors", ".npz"):
        values, about = _read_safetensors(path) if path.suffix == ".safetensors" else _read_npz(path)
        object_ids = list(zip(about["class_ids"], about["nerf_ids"], strict=True))
        own = path.stem
    else:
        raise ValueError(
            f"{path}: unknown kind {path.suffix!r}; expected .safetensors, .npz or a directory of .h5 files"
        )
    own = FAMILY_NAMES.get(own, own)
    paths = tuple(about.get("paths", [""] * len(object_ids)))
    families = tuple(family or (family_of(each) if each else None) or own for each in paths)
    hashes = tuple(about.get("hashes", ()))
    try:
        found = EmbeddingSet(values, tuple(object_ids), families, paths, hashes, about.get("encoder", ""))
        if not len(found):
            raise ValueError("holds no embeddings")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not bool(values.isfinite().all()):
        row = int(values.isfinite().flatten(1).all(dim=1).logical_not().nonzero()[0])
        raise ValueError(f"{path}: embedding {row} ({'/'.join(object_ids[row])}) has NaN or infinity; embed it again")
    return found


def read_vecs(
    directory: StrPath,
    *,
    object_ids: Collection[str] | None = None,
    family: str = VECS,
    tokens: bool = False,
    progress: Progress = no_progress,
) -> EmbeddingSet:
    """ShapeNeRF-Text's ``vecs`` folder; files that cannot be used are named in the record's problems.

    Args:
        directory: the folder, which is searched for ``<object_id>.npy``, float ``(D,)`` or ``(1, D)``, with all below it.
        object_ids: the objects to read; None for all.
        family: the family of the rows.
        tokens: whether files hold the tokens of a NeRF each, ``(N, D)``.
        progress: receives how many files were read.

    Raises:
        FileNotFoundError: no such directory.
        ValueError: none of its files holds an embedding.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory; expected embeddings <object_id>.npy in it")
    files = [file for file in sorted(directory.rglob("*.npy")) if object_ids is None or file.stem in object_ids]
    rows: list[Tensor] = []
    kept: list[Path] = []
    problems: list[str] = []

    def read(file: Path) -> Tensor | str:
        try:
            return read_embedding(file, tokens=tokens)
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(_READERS) as pool:
        for done, (file, found) in enumerate(zip(files, pool.map(read, files), strict=True), 1):
            if isinstance(found, str):
                problems.append(found)
            elif rows and found.shape != rows[0].shape:
                wanted, shape = tuple(rows[0].shape), tuple(found.shape)
                problems.append(f"{file}: the embedding has shape {shape}; expected {wanted}")
            else:
                rows.append(found)
                kept.append(file)
            progress("reading embeddings", done, len(files))
    if not rows:
        reason = f" ({problems[0]})" if problems else ""
        raise ValueError(f"{directory}: holds no embeddings that can be used{reason}")
    ids = tuple(("", file.stem) for file in kept)
    return EmbeddingSet(torch.stack(rows), ids, (family,) * len(kept), tuple(map(str, kept)), problems=tuple(problems))


def write_embeddings(members: EmbeddingSet, out: StrPath, *, indices: Tensor | None = None) -> None:
    """Write embeddings as the suffix of `out` says; nothing is written for a set without rows.

    Args:
        members: the embeddings.
        out: ``.safetensors``, ``.npz``, or a directory for ``<index>.h5`` files.
        indices: int64 ``(n,)``, the rows' places in the list that was embedded; None: 0, 1, 2, ...

    Raises:
        OSError: it cannot be written.
        ValueError: tokens, which ``.h5`` files do not hold.
    """
    out = Path(out)
    if not len(members):
        return
    if len(members.row_shape) > 1:
        check_holds_tokens(out)
    indices = torch.arange(len(members)) if indices is None else indices
    rows = {
        "paths": members.paths,
        "class_ids": members.class_ids,
        "nerf_ids": tuple(nerf_id for _, nerf_id in members.object_ids),
        "hashes": members.hashes,
    }
    if out.suffix == ".safetensors":
        # One metadata entry only: safetensors writes several in random order, and equal jobs must give equal files.
        metadata = {EMBEDDINGS_KEY: json.dumps({**rows, "encoder": members.encoder})}
        write_safetensors({"embeddings": members.values, "indices": indices}, out, metadata=metadata)
    elif out.suffix == ".npz":
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: np.array(values) for name, values in rows.items()}
        np.savez(
            buffer,
            embeddings=members.values.numpy(),
            indices=indices.numpy(),
            encoder=np.array(members.encoder),
            **arrays,
        )
        write_bytes(buffer.getvalue(), out)
    else:
        for index, row, (class_id, nerf_id) in zip(indices.tolist(), members.values, members.object_ids, strict=True):
            write_h5_embedding(row, out / f"{index}.h5", class_id=class_id, nerf_id=nerf_id)


def check_holds_tokens(out: Path) -> None:
    """Raise `ValueError` for an output that holds one vector a NeRF."""
    if out.suffix not in (".safetensors", ".npz"):
        raise ValueError(
            f"{out}: is a directory of .h5 files, which hold one vector a NeRF; write tokens to .safetensors or .npz"
        )


def write_h5_embedding(embedding: Tensor, path: StrPath, *, class_id: str, nerf_id: str) -> None:
    """One embedding as the released code stores it: datasets ``embedding`` float32 (D,), ``class_id``, ``nerf_id``
    (#embedding-files)."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("embedding", data=embedding.to(torch.float32).numpy())
        file.create_dataset("class_id", data=class_id)
        file.create_dataset("nerf_id", data=nerf_id)
    write_bytes(buffer.getvalue(), path)


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, Any]]:
    tensors, metadata = read_tensors(path)
    try:
        about, values = parse_json(metadata[EMBEDDINGS_KEY]), tensors["embeddings"]
        if values.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            raise ValueError(f"embeddings of {values.dtype}")
        return values, _checked(about)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: holds no embeddings with their ids; expected a file of llana-gmn embed") from error


def _read_npz(path: Path) -> tuple[Tensor, dict[str, Any]]:
    try:
        file = read_npz(path, ("embeddings",), (*_ROWS, "hashes", "encoder"))
        values = file.pop("embeddings")
        about = {name: array.tolist() for name, array in file.items()}
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="))), _checked(about)
    except Exception as error:  # zipfile, numpy and struct each raise their own
        raise ValueError(f"{path}: holds no embeddings with their ids; expected a file of llana-gmn embed") from error


def _checked(about: dict[str, Any]) -> dict[str, Any]:
    """Lists of equal lengths, of strings."""
    names = (*_ROWS, "hashes") if "hashes" in about else _ROWS
    lists: dict[str, Any] = {name: [str(each) for each in about[name]] for name in names}
    if len({len(values) for values in lists.values()}) != 1:
        raise ValueError("lists of ids of different lengths")
    return {**lists, "encoder": str(about.get("encoder") or "")}


def _read_h5_files(files: Sequence[Path], directory: Path) -> tuple[Tensor, list[ObjectId]]:
    if not files:
        raise ValueError(
            f"{directory}: holds no <index>.h5; expected a folder of embeddings as llana-gmn embed writes them"
        )
    found = [read_h5_embedding(file) for file in files]
    if len({len(row) for row, _, _ in found}) != 1:
        raise ValueError(f"{directory}: holds embeddings of different widths; expected those of one encoder")
    return torch.stack([row for row, _, _ in found]), [(class_id, nerf_id) for _, class_id, nerf_id in found]
