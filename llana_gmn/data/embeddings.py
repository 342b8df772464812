"""Embeddings of the objects that conversations are about: read where they are stored, computed once where they are not.

Sources: FORMATS.md 7.1 and 7.2. Three places hold embeddings: ShapeNeRF-Text's ``vecs/<object_id>.npy`` (on the hub in nested
folders), what ``llana-gmn embed`` writes (``.safetensors``, ``.npz``, a directory of ``.h5``), and NeRFs themselves, which an
encoder embeds through an `EmbeddingJob` into a cache. The cache's key is the encoder's fingerprint and the SHA-256 of a NeRF's
file, so neither a renamed NeRF nor another encoder can be taken for what it is not.

An object may be there in several *variants*: an architecture family each (``mlp``, ``triplane``, ``hash``), or ``vecs``.

Shapes: N embeddings, D their size (1024).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmn_encoder.datasets import NerfDataset, NerfEntry
from gmn_encoder.embeddings import records as embedding_sets
from gmn_encoder.embeddings.job import EmbeddingJob
from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.files import StrPath, read_json, read_tensors, write_json
from gmn_encoder.nerfs.architectures import NAMED_ARCHITECTURES, NerfArchitecture, parse_architecture
from gmn_encoder.nerfs.files import weights_file

from ..processing import read_embedding

VECS = "vecs"
"""Variant of objects with one embedding whose architecture nobody tells."""

Progress = Callable[[str, int, int], Any]
"""Hears ``(what, done, total)``."""

_READERS = 8


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Embeddings of objects.

    Attributes:
        embeddings: float32 ``(N, D)``.
        rows: object id -> variant -> row of `embeddings`. Objects are known by their bare id and as ``class_id/id``.
        ambiguous: bare ids that mean several objects; `rows` has them with their class only.
        problems: one sentence for each file that could not be used.
    """

    embeddings: Tensor
    rows: Mapping[str, Mapping[str, int]]
    ambiguous: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        return self.embeddings.shape[1]

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(variant for row in self.rows.values() for variant in row))

    def row_variants(self) -> list[str]:
        """The variant of each row of `embeddings`."""
        by_row = {row: variant for variants in self.rows.values() for variant, row in variants.items()}
        return [by_row.get(row, "") for row in range(len(self.embeddings))]

    def variants_of(self, object_ids: Sequence[str]) -> list[str]:
        """The variants that every one of these objects has."""
        first, *others = (self.rows.get(object_id, {}) for object_id in object_ids)
        return [variant for variant in first if all(variant in other for other in others)]

    def lookup(self, object_ids: Sequence[str], variant: str) -> Tensor:
        """Embeddings ``(len(object_ids), D)``. Raises `KeyError` for what is not there."""
        return self.embeddings[[self.rows[object_id][variant] for object_id in object_ids]]


class _TableBuilder:
    def __init__(self) -> None:
        self.vectors: list[Tensor] = []
        self.owner: dict[str, str | None] = {}
        self.rows: dict[str, dict[str, int]] = {}
        self.problems: list[str] = []
        self.ambiguous: set[str] = set()

    def add(self, class_id: str, object_id: str, variant: str, vector: Any, source: str) -> None:
        vector = torch.as_tensor(np.asarray(vector), dtype=torch.float32)
        vector = vector.reshape(-1) if vector.ndim == 2 and vector.shape[0] == 1 else vector
        expected = self.vectors[0].shape[0] if self.vectors else None
        if vector.ndim != 1 or not len(vector) or expected not in (None, len(vector)):
            wanted = f"({expected},)" if expected is not None else "one vector"
            self.problems.append(f"{source}: the embedding has shape {tuple(vector.shape)}; expected {wanted}")
            return
        if not bool(torch.isfinite(vector).all()):
            self.problems.append(f"{source}: the embedding has NaN or infinite values; embed the NeRF again")
            return
        row = len(self.vectors)
        self.vectors.append(vector)
        if class_id:
            if variant in self.rows.setdefault(f"{class_id}/{object_id}", {}):
                self.problems.append(f"{source}: {class_id}/{object_id} is there twice as {variant}; the first is used")
                return
            self.rows[f"{class_id}/{object_id}"][variant] = row
        if self.owner.setdefault(object_id, class_id or None) != (class_id or None) and class_id:
            self.ambiguous.add(object_id)
            return
        known = self.rows.setdefault(object_id, {})
        if variant in known:
            self.problems.append(f"{source}: {object_id} is there twice as {variant}; the first is used")
            return
        known[variant] = row

    def table(self, source: str) -> EmbeddingTable:
        if not self.vectors:
            reason = f" ({self.problems[0]})" if self.problems else ""
            raise ValueError(f"{source}: holds no embeddings that can be used{reason}")
        for object_id in self.ambiguous:
            self.rows.pop(object_id, None)
        return EmbeddingTable(torch.stack(self.vectors), self.rows, frozenset(self.ambiguous), tuple(self.problems))


def read_vecs(
    directory: StrPath, *, object_ids: Collection[str] | None = None, progress: Progress | None = None
) -> EmbeddingTable:
    """ShapeNeRF-Text's ``vecs`` folder, nested or flat.

    Args:
        directory: is searched for ``<object_id>.npy``, float ``(D,)`` or ``(1, D)``.
        object_ids: read these only; None for all.

    Raises:
        FileNotFoundError: no such directory.
        ValueError: none of its files holds an embedding.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory; expected embeddings <object_id>.npy in it")
    files = sorted(directory.rglob("*.npy"))
    wanted = [file for file in files if object_ids is None or file.stem in object_ids]
    builder = _TableBuilder()

    def read(file: Path) -> Any:
        try:
            return read_embedding(file)
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(_READERS) as pool:
        for done, (file, found) in enumerate(zip(wanted, pool.map(read, wanted), strict=True), 1):
            if isinstance(found, str):
                builder.problems.append(found)
            else:
                builder.add("", file.stem, VECS, found, str(file))
            if progress is not None:
                progress("reading embeddings", done, len(wanted))
    return builder.table(str(directory))


def read_embeddings(paths: Mapping[str, StrPath]) -> EmbeddingTable:
    """What ``llana-gmn embed`` wrote: variant -> ``.safetensors``, ``.npz`` or a directory of ``.h5``.

    Raises as `gmn_encoder.embeddings.records.read_embeddings`.
    """
    builder = _TableBuilder()
    for variant, path in paths.items():
        found = embedding_sets.read_embeddings(path)
        for (class_id, nerf_id), vector in zip(found.object_ids, found.values, strict=True):
            builder.add(class_id, nerf_id, variant, vector, f"{path}: {class_id}/{nerf_id}")
    return builder.table(", ".join(map(str, paths.values())))


def embed_nerfs(
    root: StrPath,
    families: Sequence[str],
    encoder: NerfEncoder,
    *,
    cache: StrPath,
    object_ids: Collection[str] | None = None,
    architectures: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> EmbeddingTable:
    """Embeddings of a data set's NeRFs, from the cache where they are there already.

    Args:
        root: holds ``<family>/<class_id>/<nerf_id>``.
        families: the directories to read; each is a variant.
        encoder: on the device to use.
        cache: a directory; may be shared by encoders and data sets. A killed call continues.
        object_ids: bare ids of the objects that are needed; None for all.
        architectures: family -> name or sizes, where neither the files nor a ``fit.json`` tell them.

    Raises:
        FileNotFoundError, ValueError: no such family, or none of these objects in it.
    """
    builder = _TableBuilder()
    known = EmbeddingCache(cache, encoder, batch_size=batch_size)
    for family in families:
        entries = [e for e in NerfDataset(Path(root) / family) if object_ids is None or e.nerf_id in object_ids]
        found: list[tuple[NerfEntry, Path]] = []
        for entry in entries:
            try:
                found.append((entry, weights_file(entry.path)))
            except (ValueError, OSError) as error:
                builder.problems.append(str(error))
        if not found:
            continue
        given = (architectures or {}).get(family)
        architecture = _fitted_architecture(found[0][0].path) if given is None else parse_architecture(given)
        hashes = _hashes([file for _, file in found], progress)
        files = {digest: file for digest, (_, file) in zip(hashes, found, strict=True)}
        vectors = known.embed(files, architecture=architecture, progress=progress)
        builder.problems += known.problems
        for digest, (entry, file) in zip(hashes, found, strict=True):
            if digest in vectors:
                builder.add(entry.class_id, entry.nerf_id, family, vectors[digest], str(file))
    return builder.table(f"{root} ({', '.join(families)})")


def _fitted_architecture(directory: Path) -> NerfArchitecture | None:
    """What ``fit.json`` says of a NeRF of our own making; None where it says nothing, or what its tensors tell as well."""
    from gmn_encoder.fitting.output import FIT_NAME

    path = directory / FIT_NAME
    values = read_json(path).get("architecture") if path.is_file() else None
    if not isinstance(values, dict):
        return None
    architecture = parse_architecture(values)
    return None if architecture in NAMED_ARCHITECTURES.values() else architecture


def _hashes(files: Sequence[Path], progress: Progress | None) -> list[str]:
    def digest(file: Path) -> str:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    found = []
    with ThreadPoolExecutor(_READERS) as pool:
        for done, value in enumerate(pool.map(digest, files), 1):
            found.append(value)
            if progress is not None:
                progress("looking at NeRFs", done, len(files))
    return found


class EmbeddingCache:
    """Embeddings by the hash of a NeRF's file, in a directory for each encoder; grows by a part at a time, never changes.

    Attributes:
        problems: NeRFs that could not be read by the last `embed`.
    """

    def __init__(self, directory: StrPath, encoder: NerfEncoder, *, batch_size: int = 8) -> None:
        self.directory = Path(directory) / encoder.fingerprint()[:32]
        self.encoder, self.batch_size = encoder, batch_size
        self.problems: tuple[str, ...] = ()

    def read(self) -> dict[str, Tensor]:
        """Everything that is there: hash -> embedding ``(D,)``."""
        found: dict[str, Tensor] = {}
        for part in sorted(self.directory.glob("*.safetensors")):
            hashes = read_json(part.with_suffix(".json"))["hashes"]
            tensors, _ = read_tensors(part)
            found.update(
                (hashes[i], row) for i, row in zip(tensors["indices"].tolist(), tensors["embeddings"], strict=True)
            )
        return found

    def embed(
        self,
        files: Mapping[str, Path],
        *,
        architecture: NerfArchitecture | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Tensor]:
        """Embeddings of `files` (hash -> file): known ones are read, the others are embedded and kept.

        `architecture` is theirs where it cannot be told from the files; it is part of the key then.
        """
        known = self.read()
        self.problems = ()
        if architecture is not None:
            suffix = f" {json.dumps(architecture.to_dict(), sort_keys=True)}"
            found = self._embed({key + suffix: file for key, file in files.items()}, known, architecture, progress)
            return {key.removesuffix(suffix): row for key, row in found.items()}
        return self._embed(files, known, None, progress)

    def _embed(
        self,
        files: Mapping[str, Path],
        known: dict[str, Tensor],
        architecture: NerfArchitecture | None,
        progress: Progress | None,
    ) -> dict[str, Tensor]:
        missing = {key: file for key, file in sorted(files.items()) if key not in known}
        if missing:
            name = hashlib.sha256(json.dumps(sorted(missing)).encode()).hexdigest()[:24]
            write_json({"hashes": list(missing)}, self.directory / f"{name}.json")
            out = self.directory / f"{name}.safetensors"
            job = EmbeddingJob(
                list(missing.values()), self.encoder, out=out, batch_size=self.batch_size, architecture=architecture
            )
            done = 0

            def count(chunk: int) -> None:
                nonlocal done
                done += chunk
                if progress is not None:
                    progress("embedding NeRFs", done, len(missing))

            job.run(on_chunk=count)
            result = job.finish()
            self.problems = result.errors
            known |= self.read()
        return {key: known[key] for key in files if key in known}
