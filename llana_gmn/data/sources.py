"""Where a data set's texts and embeddings are, and a split of it as training samples.

Sources: docs/released_format.md#shapenerf-text, and what ``llana-gmn fit procedural:N`` writes. One directory holds texts
(``<split>/texts/*.json``, or the same under ``language/``) and either embeddings (``<split>/vecs``) or NeRFs
(``<family>/<class_id>/<nerf_id>``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmn_encoder.datasets import NerfDataset
from gmn_encoder.digests import files_below
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.files import VECS, content_file, read_embeddings, read_vecs
from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.files import read_json
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.nerfs.architectures import FAMILIES, NAMED_ARCHITECTURES, NerfArchitecture, parse_architecture
from gmn_encoder.progress import Progress, no_progress

from ..checkpoints.encoders import check_origin
from ..model.processing import LlanaGmnProcessor
from .conversations import HST, Problem, conversation_file, read_conversations
from .dataset import ConversationDataset, Dialogue
from .positions import encoders_by_position, position_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LanguageData:
    """A data set for language training.

    Attributes:
        root: the data set's directory.
        embeddings: variant (the record's family) -> what ``llana-gmn embed`` wrote; empty to find ``vecs`` or NeRFs under `root`.
        families: the directories of NeRFs to read, or the variants to keep; None for all that are there.
        encoder: the encoder of NeRFs, which stored embeddings must be of; not needed where they are stored.
        cache: the directory where embeddings of NeRFs are kept; None for ``<root>/.embeddings``.
        architectures: family -> name or sizes of its NeRFs, where neither the files nor a ``fit.json`` tell them.
    """

    root: Path
    embeddings: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] | None = None
    encoder: NerfEncoder | None = None
    cache: Path | None = None
    architectures: Mapping[str, Any] = field(default_factory=dict)

    def dialogues(self, split: str, types: Sequence[str]) -> tuple[list[Dialogue], list[Problem]]:
        """What is said in a split, of these types in their files' order, and the entries that could not be read.

        Raises `FileNotFoundError` and `ValueError` for files that are missing or no such files.
        """
        files = dict.fromkeys(conversation_file(self.root, kind, split=split) for kind in types)
        found: list[Dialogue] = []
        problems: list[Problem] = []
        for file in files:
            read = read_conversations(file, default_type=HST if HST in types else None)
            problems += read.problems
            found += [
                Dialogue.from_conversation(each, path=str(file)) for each in read if each.conversation_type in types
            ]
        if not found:
            named = ", ".join(map(str, files))
            raise ValueError(
                f"{named}: has no conversations of type {' or '.join(types)}; choose other types, or other texts"
            )
        return found, problems

    def table(
        self,
        split: str,
        object_ids: Sequence[str],
        progress: Progress = no_progress,
        *,
        tokens: bool = False,
        positions: int = 0,
    ) -> EmbeddingSet:
        """Embeddings of objects, or with `tokens` those of `NerfEncoder.encode_tokens`, in every variant.

        With `positions` each NeRF is embedded as it is or in one of so many other positions (`positions.py`). A warning is logged
        where stored ones do not say which encoder made them.

        Raises `ValueError` or `FileNotFoundError` that says where was looked, or of which other encoder embeddings are.
        """
        if positions and (self.embeddings or self._vecs(split) is not None):
            raise ValueError(
                f"positions: {positions}: {self.root} has embeddings, which cannot be moved; set positions: 0, or name NeRFs"
            )
        if self.embeddings:
            sets = [read_embeddings(path, family=name) for name, path in self.embeddings.items()]
            for path, members in zip(self.embeddings.values(), sets, strict=True):
                self._check_origin(members.encoder, path)
            return join_embeddings(sets)
        wanted = _names(object_ids)
        if (vecs := self._vecs(split)) is not None:
            self._check_origin("", vecs)
            return read_vecs(vecs, object_ids=wanted, tokens=tokens, progress=progress)
        families = self._families()
        if not families:
            raise FileNotFoundError(
                f"{self.root}: holds neither {split}/vecs nor NeRFs ({', '.join(FAMILIES)}); "
                "name files of llana-gmn embed with embeddings="
            )
        if self.encoder is None:
            raise ValueError(
                f"{self.root}: holds NeRFs, and this model has no encoder to embed them; name one with encoder=, "
                "or files of llana-gmn embed with embeddings="
            )
        place = self.cache if self.cache is not None else self.root / ".embeddings"
        encoders = encoders_by_position(self.encoder, positions)
        caches = [EmbeddingCache(place, encoder, tokens=tokens) for encoder in encoders]
        found = []
        for family in families:
            entries = [entry for entry in NerfDataset(self.root / family) if entry.nerf_id in wanted]
            given = self.architectures.get(family)
            paths = [entry.path for entry in entries]
            architecture = fitted_architecture(paths) if given is None else parse_architecture(given)
            for number, cache in enumerate(caches):
                there = [each.path for each in entries if position_of(family, each.nerf_id, positions) == number]
                found.append(cache.embed(there, family=family, architecture=architecture, progress=progress))
        table = join_embeddings(found)
        if not len(table):
            reason = f" ({table.problems[0]})" if table.problems else ""
            raise ValueError(f"{self.root} ({', '.join(families)}): holds no embeddings that can be used{reason}")
        return table

    def files(self, split: str, types: Sequence[str]) -> dict[str, list[Path]]:
        """What `load` reads of a split, besides the encoder: ``texts``, and ``embeddings`` or ``NeRFs`` -> files, sorted.

        Raises what `dialogues` raises.
        """
        dialogues, _ = self.dialogues(split, types)
        texts = sorted({conversation_file(self.root, kind, split=split) for kind in types})
        if self.embeddings:
            return {"texts": texts, "embeddings": [f for e in self.embeddings.values() for f in files_below(e)]}
        wanted = _names([object_id for each in dialogues for object_id in each.object_ids])
        if (vecs := self._vecs(split)) is not None:
            return {"texts": texts, "embeddings": [file for file in sorted(vecs.rglob("*.npy")) if file.stem in wanted]}
        entries = [entry for family in self._families() for entry in NerfDataset(self.root / family)]
        return {"texts": texts, "NeRFs": [content_file(entry.path) for entry in entries if entry.nerf_id in wanted]}

    def _vecs(self, split: str) -> Path | None:
        places = (self.root / split / "vecs", self.root / "language" / split / "vecs", self.root / "vecs")
        return next((vecs for vecs in places if vecs.is_dir()), None)

    def _families(self) -> tuple[str, ...]:
        return self.families or tuple(name for name in FAMILIES if (self.root / name).is_dir())

    def _check_origin(self, origin: str, source: Path | str) -> None:
        if note := check_origin(origin, self.encoder, source):
            logger.warning("%s", note)

    def load(
        self,
        split: str,
        types: Sequence[str],
        *,
        processor: LlanaGmnProcessor,
        max_length: int = 2048,
        positions: int = 0,
        progress: Progress = no_progress,
        **options: Any,
    ) -> ConversationDataset:
        """A split as samples; `ConversationDataset.problems` begins with the entries that could not be read.

        Raises what `dialogues`, `table` and `ConversationDataset` raise.
        """
        dialogues, problems = self.dialogues(split, types)
        objects = list(dict.fromkeys(object_id for each in dialogues for object_id in each.object_ids))
        table = self.table(split, objects, progress, tokens=processor.vectors_per_nerf > 1, positions=positions)
        dataset = ConversationDataset(
            dialogues,
            table,
            processor=processor,
            variants=self.families if set(table.families) != {VECS} else None,
            max_length=max_length,
            progress=progress,
            **options,
        )
        messages = [*table.problems, *table.repeated]
        unread = [Problem(str(self.root), 0, "an unusable embedding", message) for message in messages]
        dataset.problems[:0] = [*problems, *unread]
        return dataset


def _names(object_ids: Sequence[str]) -> set[str]:
    """What objects may be called: with their class, and without."""
    return {name for object_id in object_ids for name in (object_id, object_id.rpartition("/")[2])}


def fitted_architecture(nerfs: Sequence[Path]) -> NerfArchitecture | None:
    """What ``fit.json`` says of NeRFs of our own making, one architecture for all.

    None where the first says nothing, or what its tensors tell as well.
    """
    path = nerfs[0] / FIT_NAME if nerfs else None
    values = read_json(path).get("architecture") if path is not None and path.is_file() else None
    if not isinstance(values, dict):
        return None
    architecture = parse_architecture(values)
    return None if architecture in NAMED_ARCHITECTURES.values() else architecture
