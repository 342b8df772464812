"""Embedding many NeRF files: in chunks that survive a kill, shared out over processes, merged into one result.

While a job runs, finished chunks stand in a directory beside the output (``OUT.partial``) together with ``job.json``, which
says what the job is. The same call continues it; a call for another job refuses. A chunk says the SHA-256 of each of its files
(`digests.py`): one with a file that has changed since is made again. Chunks depend on the list of files alone, so an interrupted
job and an uninterrupted one end with identical files, whatever the number of processes (one machine, as many threads in each).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..ahead import ahead
from ..digests import Digests
from ..encoders.base import NerfEncoder, num_tokens
from ..files import StrPath, read_tensors, write_json, write_safetensors
from ..nerfs.architectures import NerfArchitecture
from ..nerfs.files import load_nerf, renamed
from ..nerfs.finite import OnError, check_embeddings, check_field, encode_each
from ..nerfs.record import Nerf
from ..progress import Progress, no_progress
from .files import check_holds_tokens, content_file, content_hash, content_hashes, write_embeddings
from .records import EmbeddingSet

CHUNK_SIZE = 64
_LOADERS = 4
_JOB_NAME = "job.json"

logger = logging.getLogger(__name__)


class EmbeddingJob:
    """A list of NeRF files, an encoder and an output; `run` does a process's share, `finish` merges all shares.

    Args:
        paths: NeRF files or directories, in the order of the result.
        encoder: the encoder, on the device to use.
        names: what NeRFs are called in the result and in messages, where that is not their path.
        out: ``.safetensors``, ``.npz``, or a directory for ``.h5`` files.
        architecture: the architecture of all files, where it cannot be detected.
        batch_size: NeRFs of one architecture that go through the encoder at a time.
        dtype: the dtype of the heavy products.
        tokens: whether rows are the tokens of `encode_tokens` ``(N, D)``, not in ``.h5`` files; where N is 1 they are vectors.
        overwrite: replace an existing output.

    Raises:
        FileExistsError: the output exists and `overwrite` is off, or an unfinished job of another kind stands beside it.
        OSError: the output cannot be written (found out before any work).
        ValueError: no files, or an unknown kind of output.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        encoder: NerfEncoder,
        *,
        out: StrPath,
        names: Sequence[str] | None = None,
        architecture: NerfArchitecture | str | None = None,
        batch_size: int = 8,
        dtype: torch.dtype | None = None,
        tokens: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.names = self.paths if names is None else list(names)
        self.encoder = encoder
        self.out = Path(out)
        self.architecture = architecture
        self.batch_size = batch_size
        self.dtype = dtype
        self.tokens = tokens and num_tokens(encoder.config) > 1
        self._digests = Digests()
        self.partial = self.out.with_name(self.out.name + ".partial")
        if not self.paths:
            raise ValueError("no NeRF to embed; name at least one file or directory")
        if self.out.suffix not in ("", ".safetensors", ".npz"):
            raise ValueError(
                f"{self.out}: unknown kind {self.out.suffix!r}; expected .safetensors, .npz, or a directory for .h5 files"
            )
        if self.tokens:
            check_holds_tokens(self.out)
        self._job: dict[str, Any] = {
            "paths": hashlib.sha256(json.dumps(self.paths).encode()).hexdigest(),
            "count": len(self.paths),
            "encoder": encoder.fingerprint(),
            "architecture": str(architecture),
            "batch_size": batch_size,
            "dtype": str(dtype),
            "chunk_size": CHUNK_SIZE,
            **({"tokens": True} if self.tokens else {}),
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

    def _members(self, chunk: int) -> range:
        return range(chunk * CHUNK_SIZE, min((chunk + 1) * CHUNK_SIZE, len(self.paths)))

    def _chunk_file(self, chunk: int) -> Path:
        return self.partial / f"chunk-{chunk:06d}.safetensors"

    def run(self, *, rank: int = 0, world_size: int = 1, progress: Progress = no_progress) -> None:
        """Embed this process's chunks that are not there yet, or whose files have changed since; `progress` receives NeRFs."""
        share = self._share(rank, world_size)
        missing = self._missing(share)
        total = sum(len(self._members(chunk)) for chunk in share)
        done = total - sum(len(self._members(chunk)) for chunk in missing)
        progress("embedding NeRFs", done, total)
        with ThreadPoolExecutor(_LOADERS) as pool:
            # The NeRFs of a chunk, or why they could not be read, are read while the chunk before is embedded.
            read = ahead(
                lambda chunk: list(pool.map(self._load, (self.paths[i] for i in self._members(chunk)))), missing
            )
            for chunk, loaded in zip(missing, read, strict=True):
                self._write_chunk(chunk, loaded)
                done += len(loaded)
                progress("embedding NeRFs", done, total)

    def _missing(self, share: range) -> list[int]:
        """The chunks of a share that have to be made; a log message counts the files because of which some are made again."""
        before: dict[int, str] = {}
        for chunk in share:
            if self._chunk_file(chunk).exists():
                _, metadata = read_tensors(self._chunk_file(chunk))
                # A chunk without hashes was written before they were compared: it is made again.
                before.update(zip(self._members(chunk), json.loads(metadata.get("hashes", "[]")), strict=False))
                for i, entry in zip(self._members(chunk), json.loads(metadata.get("digests", "[]")), strict=False):
                    if entry is not None:
                        self._digests.remember(content_file(self.paths[i]), entry)
        now = content_hashes([self.paths[i] for i in before], known=self._digests)
        changed = [i for (i, then), digest in zip(before.items(), now, strict=True) if digest != then]
        if changed:
            logger.warning(
                "%d of %d NeRFs that were embedded already had changed since; they are embedded again",
                len(changed),
                len(before),
            )
        valid = {i // CHUNK_SIZE for i in before} - {i // CHUNK_SIZE for i in changed}
        return [chunk for chunk in share if chunk not in valid]

    def _load(self, path: str) -> tuple[str, Nerf | str]:
        """The SHA-256 of a file ("": there is none) and its NeRF, or why it cannot be read."""
        digest = ""
        try:
            digest = content_hash(path, self._digests)
            nerf = load_nerf(path, self.architecture)
            if content_hash(path, self._digests) != digest:
                raise ValueError(f"{path}: changed while it was read; embed it again")
            self.encoder.check_nerf(nerf)
            check_field(nerf)
            return digest, nerf
        except (ValueError, OSError) as error:
            return digest, str(error)

    def _write_chunk(self, chunk: int, loaded: list[tuple[str, Nerf | str]]) -> None:
        members = self._members(chunk)
        errors = {i: found for i, (_, found) in zip(members, loaded, strict=True) if isinstance(found, str)}
        good = {i: nerf for i, (_, nerf) in zip(members, loaded, strict=True) if isinstance(nerf, Nerf)}
        made = dict(zip(good, encode_each(self._encode, list(good.values())), strict=True))
        errors |= {i: str(found) for i, found in made.items() if isinstance(found, ValueError)}
        rows = {i: found for i, found in made.items() if not isinstance(found, ValueError)}
        embeddings = torch.stack(list(rows.values())) if rows else self._encode([], lambda *_: None)
        tensors = {"embeddings": embeddings, "indices": torch.tensor(list(rows), dtype=torch.int64)}
        named = {i: renamed(text, self.paths[i], self.names[i]) for i, text in sorted(errors.items())}
        metadata = {
            "errors": json.dumps(named),
            "hashes": json.dumps([digest for digest, _ in loaded]),
            "digests": json.dumps([self._digests.entry(content_file(self.paths[i])) for i in members]),
        }
        write_safetensors(tensors, self._chunk_file(chunk), metadata=metadata)

    def _encode(self, nerfs: Sequence[Nerf], on_error: OnError) -> Tensor:
        """Embeddings ``(n, D)``, or tokens ``(n, N, D)``, on the CPU."""
        encode = self.encoder.encode_tokens if self.tokens else self.encoder.encode
        embeddings = encode(nerfs, batch_size=self.batch_size, dtype=self.dtype).cpu()
        check_embeddings(nerfs, embeddings, on_error)
        return embeddings

    def finish(self) -> EmbeddingSet:
        """Merge all chunks into the output and clear up. Call it once, when every process's `run` has returned.

        Returns:
            the embeddings of the files that could be read, in the order given; a message for each of the others in `problems`.
        """
        embeddings, places = [], []
        hashes: list[str] = []
        errors: list[str] = []
        for chunk in range(self.num_chunks):
            tensors, metadata = read_tensors(self._chunk_file(chunk))
            embeddings.append(tensors["embeddings"])
            places.append(tensors["indices"])
            hashes += json.loads(metadata["hashes"])
            errors += json.loads(metadata["errors"]).values()
        indices = torch.cat(places)
        result = EmbeddingSet.of_nerfs(
            torch.cat(embeddings),
            [self.paths[i] for i in indices.tolist()],
            names=[self.names[i] for i in indices.tolist()],
            hashes=tuple(hashes[i] for i in indices.tolist()),
            encoder=self._job["encoder"],
            problems=tuple(errors),
        )
        write_embeddings(result, self.out, indices=indices)
        shutil.rmtree(self.partial)
        return result
