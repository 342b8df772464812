"""Embeddings of data sets, made once: kept by the encoder's fingerprint and the SHA-256 of each NeRF's weights file.

    <cache>/<fingerprint>/<part>.safetensors                  a file of `write_embeddings` for each call that embedded anything
    <cache>/<fingerprint>/<architecture>/<part>.safetensors   of NeRFs whose architecture was given: it decides what a file means
    <cache>/<fingerprint>/tokens/...                          the same of tokens
    <cache>/digests.json                                      of the files that were looked at, for all encoders

A NeRF that was moved or copied is known already; one that was fitted anew in the same place is embedded anew, and a log message
counts those. A cache may be shared by encoders and data sets; it grows and never changes. A killed call continues. One process
embeds at a time, others wait.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import NerfDataset
from ..digests import DIGESTS_NAME, Digests
from ..encoders.base import NerfEncoder, num_tokens
from ..files import StrPath
from ..locks import output_lock
from ..nerfs.architectures import NerfArchitecture
from ..progress import Progress, no_progress
from .files import content_hash, content_hashes, read_embeddings
from .job import EmbeddingJob
from .records import EmbeddingSet

logger = logging.getLogger(__name__)


class EmbeddingCache:
    """One encoder's embeddings in a cache directory.

    Args:
        directory: the cache, made where it is not there.
        encoder: the encoder, on the device to use.
        batch_size: NeRFs of one architecture that go through the encoder at a time.
        tokens: whether rows are the tokens of `encode_tokens` ``(N, D)``; where N is 1 they are vectors.
    """

    def __init__(self, directory: StrPath, encoder: NerfEncoder, *, batch_size: int = 8, tokens: bool = False) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        self.tokens = tokens and num_tokens(encoder.config) > 1
        self.fingerprint = encoder.fingerprint()
        self.directory = Path(directory) / self.fingerprint[:32] / ("tokens" if self.tokens else "")
        self._digests = Path(directory) / DIGESTS_NAME

    def embed(
        self,
        paths: Sequence[StrPath],
        *,
        family: str | None = None,
        architecture: NerfArchitecture | None = None,
        progress: Progress = no_progress,
    ) -> EmbeddingSet:
        """Embeddings of NeRF files or directories: those of known content are read, the others are made and kept.

        Args:
            paths: the NeRFs.
            family: the family of the rows; None: as the directories tell.
            architecture: the architecture of all of them, where it cannot be detected.
            progress: receives how many files were looked at, and how many embedded.

        Returns:
            a row for each NeRF that could be read, in the order given, none where none could; a message for each of the others
            in `problems`.
        """
        digests = Digests(self._digests)
        hashes = content_hashes(paths, known=digests, progress=progress)
        directory = self.directory if architecture is None else self.directory / _digest(architecture.to_dict())
        known = _read_parts(directory, set(hashes))
        missing = {
            digest: str(path) for path, digest in zip(paths, hashes, strict=True) if digest and digest not in known
        }
        problems = [_unreadable(path) for path, digest in zip(paths, hashes, strict=True) if not digest]
        if digests.changed:
            logger.warning(
                "%s: %d of %d NeRFs had changed since they were last looked at; what is not known of them is embedded anew",
                self.directory.parent,
                len(digests.changed),
                len(paths),
            )
        if missing:
            with output_lock(directory / "embeddings", wait=True) as waited:
                if waited:  # for a process that may have made the same
                    known.update(_read_parts(directory, set(missing)))
                made = self._make(
                    {d: path for d, path in missing.items() if d not in known}, directory, architecture, progress
                )
            known.update(zip(made.hashes, made.values, strict=True))
            then = dict(zip(made.paths, made.hashes, strict=True))  # a file may have changed since it was looked at
            hashes = [then.get(str(path), digest) for path, digest in zip(paths, hashes, strict=True)]
            problems += made.problems
        digests.save()  # not before the embeddings are there: an interrupted call still says what had changed
        rows = [(str(path), digest) for path, digest in zip(paths, hashes, strict=True) if digest in known]
        problems += [
            f"{path}: is the same as {missing[digest]}, which could not be embedded"
            for path, digest in zip(map(str, paths), hashes, strict=True)
            if digest and digest not in known and path != missing[digest]
        ]
        shape = (num_tokens(self.encoder.config), self.encoder.embedding_dim)[0 if self.tokens else 1 :]
        return EmbeddingSet.of_nerfs(
            torch.stack([known[digest] for _, digest in rows]) if rows else torch.zeros(0, *shape),
            [path for path, _ in rows],
            family=family,
            hashes=tuple(digest for _, digest in rows),
            encoder=self.fingerprint,
            problems=tuple(problems),
        )

    def embed_family(
        self,
        directory: StrPath,
        *,
        split: str | None = None,
        architecture: NerfArchitecture | None = None,
        progress: Progress = no_progress,
    ) -> EmbeddingSet:
        """Embeddings of a family's NeRFs in a data set, see `embed`.

        Args:
            directory: the family's directory, which holds ``<class_id>/<nerf_id>``.
            split: "train", "val", "test" or a list's path; None for all that is there.
            architecture, progress: arguments of `embed`.

        Raises:
            FileNotFoundError, ValueError: no such directory or split, or not one NeRF could be embedded.
        """
        dataset = NerfDataset(directory, split)
        found = self.embed([entry.path for entry in dataset], architecture=architecture, progress=progress)
        if not len(found):
            reason = f" ({found.problems[0]})" if found.problems else ""
            raise ValueError(f"{dataset.root}: none of {len(dataset)} NeRFs could be embedded{reason}")
        return found

    def _make(
        self, files: dict[str, str], directory: Path, architecture: NerfArchitecture | None, progress: Progress
    ) -> EmbeddingSet:
        if not files:
            return EmbeddingSet.of_nerfs(torch.zeros(0, self.encoder.embedding_dim), [])
        # In the order of the hashes, so that equal calls find the chunks of one that was killed.
        ordered = sorted(files.items())
        out = directory / f"{_digest([self.batch_size, ordered])}.safetensors"
        job = EmbeddingJob(
            [path for _, path in ordered],
            self.encoder,
            out=out,
            architecture=architecture,
            batch_size=self.batch_size,
            tokens=self.tokens,
            overwrite=True,
        )
        job.run(progress=progress)
        return job.finish()


def _read_parts(directory: Path, wanted: Collection[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for part in sorted(directory.glob("*.safetensors")):
        members = read_embeddings(part)
        found.update(
            (key, row) for key, row in zip(members.hashes, members.values, strict=True) if key in wanted and key
        )
    return found


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _unreadable(path: StrPath) -> str:
    try:
        content_hash(path)
    except OSError as error:
        return str(error)
    return f"{path}: appeared while it was looked for; run the same again"
