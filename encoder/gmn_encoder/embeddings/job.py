"""Embedding many NeRF files: in chunks that survive a kill, shared out over processes, merged into one result.

While a job runs, finished chunks stand in a directory beside the output (``OUT.partial``) together with ``job.json``, which
says what the job is. The same call continues it; a call for another job refuses. Chunks depend on the list of files alone, so
an interrupted job and an uninterrupted one end with identical files, whatever the number of processes (one machine, as many
threads in each).

Outputs: ``.safetensors`` (tensors ``embeddings`` (n, D) and ``indices`` (n,); paths and ids in the metadata entry
`EMBEDDINGS_KEY`), ``.npz`` (the same as arrays) or a directory of ``<index>.h5`` in the released layout (FORMATS.md 7.1).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ahead import ahead
from ..encoders.gmn.encoder import GmnEncoder
from ..files import StrPath, read_tensors, write_bytes, write_json, write_safetensors
from ..nerfs.architectures import NerfArchitecture
from ..nerfs.files import load_nerf, released_ids
from ..nerfs.record import Nerf

CHUNK_SIZE = 64
_LOADERS = 4
_JOB_NAME = "job.json"
EMBEDDINGS_KEY = "llana_gmn_embeddings"
"""Metadata entry of a ``.safetensors`` output: JSON with ``paths``, ``class_ids``, ``nerf_ids`` and the encoder's fingerprint."""


@dataclass(frozen=True)
class EmbeddedFiles:
    """What a job gives.

    Attributes:
        paths: the files that could be read, in the order given.
        indices: int64 ``(n,)``, their places in the list that was given.
        embeddings: float32 (float64 from a float64 encoder) ``(n, D)``.
        errors: one message for each file that could not be read.
    """

    paths: tuple[str, ...]
    indices: Tensor
    embeddings: Tensor
    errors: tuple[str, ...]


class EmbeddingJob:
    """A list of NeRF files, an encoder and an output; `run` does a process's share, `finish` merges all shares.

    Args:
        paths: NeRF files or directories, in the order of the result.
        encoder: the encoder, on the device to use.
        out: ``.safetensors``, ``.npz``, or a directory for ``.h5`` files.
        architecture: of all files, where it cannot be detected.
        batch_size: NeRFs of one architecture at a time.
        dtype: of the heavy products.
        overwrite: replace an existing output.

    Raises:
        FileExistsError: the output exists and `overwrite` is off, or an unfinished job of another kind stands beside it.
        OSError: the output cannot be written (found out before any work).
        ValueError: no files, or an unknown kind of output.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        encoder: GmnEncoder,
        *,
        out: StrPath,
        architecture: NerfArchitecture | str | None = None,
        batch_size: int = 8,
        dtype: torch.dtype | None = None,
        overwrite: bool = False,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.encoder = encoder
        self.out = Path(out)
        self.architecture = architecture
        self.batch_size = batch_size
        self.dtype = dtype
        self.partial = self.out.with_name(self.out.name + ".partial")
        if not self.paths:
            raise ValueError("no NeRF to embed; name at least one file or directory")
        if self.out.suffix not in ("", ".safetensors", ".npz"):
            raise ValueError(
                f"{self.out}: unknown kind {self.out.suffix!r}; expected .safetensors, .npz, or a directory for .h5 files"
            )
        self._job: dict[str, Any] = {
            "paths": hashlib.sha256(json.dumps(self.paths).encode()).hexdigest(),
            "count": len(self.paths),
            "encoder": encoder.fingerprint(),
            "architecture": str(architecture),
            "batch_size": batch_size,
            "dtype": str(dtype),
            "chunk_size": CHUNK_SIZE,
        }
        self._start(overwrite=overwrite)

    def _start(self, *, overwrite: bool) -> None:
        job_file = self.partial / _JOB_NAME
        if job_file.exists():
            try:
                found = json.loads(job_file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                found = {}
            if found != self._job:
                changed = next((key for key in self._job if found.get(key) != self._job[key]), "contents")
                raise FileExistsError(
                    f"{self.partial}: holds an unfinished job with other {changed}; "
                    "finish that one, delete it, or choose another output"
                )
            return
        occupied = any(self.out.glob("*.h5")) if self.out.is_dir() else self.out.exists()
        if occupied and not overwrite:
            raise FileExistsError(f"{self.out}: exists already; pass overwrite (--overwrite) or choose another output")
        write_json(self._job, job_file)

    @property
    def num_chunks(self) -> int:
        return -(-len(self.paths) // CHUNK_SIZE)

    def _share(self, rank: int, world_size: int) -> range:
        return range(rank, self.num_chunks, world_size)

    def share_size(self, rank: int, world_size: int) -> int:
        """How many files a process deals with."""
        return sum(len(self._members(chunk)) for chunk in self._share(rank, world_size))

    def _chunk_file(self, chunk: int) -> Path:
        return self.partial / f"chunk-{chunk:06d}.safetensors"

    def run(
        self,
        *,
        rank: int = 0,
        world_size: int = 1,
        on_chunk: Callable[[int], Any] = lambda count: None,
    ) -> None:
        """Embed the chunks of this process that are not there yet; `on_chunk` hears how many files each chunk dealt with."""
        missing = [chunk for chunk in self._share(rank, world_size) if not self._chunk_file(chunk).exists()]
        on_chunk(self.share_size(rank, world_size) - sum(len(self._members(chunk)) for chunk in missing))
        with ThreadPoolExecutor(_LOADERS) as pool:
            # The NeRFs of a chunk, or why they could not be read, are read while the chunk before is embedded.
            read = ahead(
                lambda chunk: list(pool.map(self._load, (self.paths[i] for i in self._members(chunk)))), missing
            )
            for chunk, loaded in zip(missing, read, strict=True):
                self._write_chunk(chunk, loaded)
                on_chunk(len(loaded))

    def _members(self, chunk: int) -> range:
        return range(chunk * CHUNK_SIZE, min((chunk + 1) * CHUNK_SIZE, len(self.paths)))

    def _load(self, path: str) -> Nerf | str:
        try:
            return load_nerf(path, self.architecture)
        except (ValueError, OSError) as error:
            return str(error)

    def _write_chunk(self, chunk: int, loaded: list[Nerf | str]) -> None:
        members = self._members(chunk)
        good = [(i, nerf) for i, nerf in zip(members, loaded, strict=True) if isinstance(nerf, Nerf)]
        errors = {str(i): message for i, message in zip(members, loaded, strict=True) if isinstance(message, str)}
        embeddings = self.encoder.encode([nerf for _, nerf in good], batch_size=self.batch_size, dtype=self.dtype)
        tensors = {"embeddings": embeddings, "indices": torch.tensor([i for i, _ in good], dtype=torch.int64)}
        write_safetensors(tensors, self._chunk_file(chunk), metadata={"errors": json.dumps(errors)})

    def finish(self) -> EmbeddedFiles:
        """Merge all chunks into the output and clear up. Call it once, when every process's `run` has returned."""
        embeddings, indices, errors = [], [], []
        for chunk in range(self.num_chunks):
            tensors, metadata = read_tensors(self._chunk_file(chunk))
            embeddings.append(tensors["embeddings"])
            indices.append(tensors["indices"])
            errors += json.loads(metadata["errors"]).values()
        index = torch.cat(indices)
        result = EmbeddedFiles(
            tuple(self.paths[i] for i in index.tolist()), index, torch.cat(embeddings), tuple(errors)
        )
        write_embeddings(result, self.out, encoder_fingerprint=self._job["encoder"])
        shutil.rmtree(self.partial)
        return result


def write_embeddings(result: EmbeddedFiles, out: StrPath, *, encoder_fingerprint: str) -> None:
    """Write embeddings as the suffix of `out` says (see the module). Nothing is written where no file could be read."""
    out = Path(out)
    if not result.paths:
        return
    ids = [released_ids(path) for path in result.paths]
    if out.suffix == ".safetensors":
        # One metadata entry only: safetensors writes several in random order, and equal jobs must give equal files.
        about = {
            "paths": result.paths,
            "class_ids": [class_id for class_id, _ in ids],
            "nerf_ids": [nerf_id for _, nerf_id in ids],
            "encoder": encoder_fingerprint,
        }
        metadata = {EMBEDDINGS_KEY: json.dumps(about)}
        write_safetensors({"embeddings": result.embeddings, "indices": result.indices}, out, metadata=metadata)
    elif out.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(
            buffer,
            embeddings=result.embeddings.numpy(),
            indices=result.indices.numpy(),
            paths=np.array(result.paths),
            class_ids=np.array([class_id for class_id, _ in ids]),
            nerf_ids=np.array([nerf_id for _, nerf_id in ids]),
            encoder=np.array(encoder_fingerprint),
        )
        write_bytes(buffer.getvalue(), out)
    else:
        for index, embedding, (class_id, nerf_id) in zip(result.indices.tolist(), result.embeddings, ids, strict=True):
            write_h5_embedding(embedding, out / f"{index}.h5", class_id=class_id, nerf_id=nerf_id)


def write_h5_embedding(embedding: Tensor, path: StrPath, *, class_id: str, nerf_id: str) -> None:
    """One embedding as the released code stores it: datasets ``embedding`` float32 (D,), ``class_id``, ``nerf_id`` (7.1)."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("embedding", data=embedding.to(torch.float32).numpy())
        file.create_dataset("class_id", data=class_id)
        file.create_dataset("nerf_id", data=nerf_id)
    write_bytes(buffer.getvalue(), path)
