"""The one record of embeddings: rows, and what they are of.

Objects are known by ``(class_id, nerf_id)``, and a row also by its family: the architecture family of its NeRF as the paper names
it, a folder of unseen sizes (``triplane_unseen/16_resolution``), or what the reader was told. Texts name objects by
``class_id/nerf_id``, or by the bare ``nerf_id`` where it means one object (docs/released_format.md#data-layout).

A row is one vector, or N tokens of `NerfEncoder.encode_tokens`: what a language model may read, and no benchmark of embeddings.

Shapes: n rows, N tokens, D embedding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..datasets import ObjectId
from ..files import StrPath
from ..nerfs.architectures import FAMILY_NAMES
from ..nerfs.files import released_ids

_Index = tuple[dict[str, dict[str, int]], frozenset[str], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Rows of embeddings and what they are of.

    Attributes:
        values: float ``(n, D)``, or tokens ``(n, N, D)``.
        object_ids: ``(class_id, nerf_id)`` of each row; the class is "" where nothing tells it.
        families: the family of each row.
        paths: the NeRF of each row as it was named when it was embedded, "" where that is not known.
        hashes: the SHA-256 of each row's weights file, "" where that is not known.
        encoder: the fingerprint of the encoder, "" where it is not known or rows are of several.
        problems: one sentence for each NeRF or file that could not be used.

    Raises:
        ValueError: other numbers of rows and ids, or values of another shape or dtype.
    """

    values: Tensor
    object_ids: tuple[ObjectId, ...]
    families: tuple[str, ...]
    paths: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    encoder: str = ""
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = ("",) * len(self.object_ids)
        object.__setattr__(self, "paths", self.paths or unknown)
        object.__setattr__(self, "hashes", self.hashes or unknown)
        counts = {len(each) for each in (self.object_ids, self.families, self.paths, self.hashes)}
        if self.values.ndim not in (2, 3) or not self.values.is_floating_point() or counts != {len(self.values)}:
            raise ValueError(
                f"holds a tensor of shape {list(self.values.shape)} and dtype {self.values.dtype} "
                f"for {len(self.object_ids)} NeRFs; expected an embedding each"
            )

    @classmethod
    def of_nerfs(
        cls,
        values: Tensor,
        paths: Sequence[StrPath],
        *,
        names: Sequence[str] | None = None,
        family: str | None = None,
        **known: Any,
    ) -> EmbeddingSet:
        """Rows of NeRFs in the released layout, whose paths tell ids and families.

        Args:
            values: the embeddings.
            paths: the NeRF file or directory of each.
            names: what each is called in place of its path, such as what a NeRF was fitted to.
            family: the family of all of them; None: as the directories tell, at least by their name.
            **known: `hashes`, `encoder` and `problems`.
        """
        families = (family or family_of(path) or _family_directory(path).name for path in paths)
        ids = (released_ids(path) for path in paths)
        return cls(values, tuple(ids), tuple(families), tuple(map(str, names or paths)), **known)

    def __len__(self) -> int:
        return len(self.object_ids)

    @property
    def dim(self) -> int:
        return self.values.shape[-1]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """``(D,)``, or ``(N, D)`` where rows are tokens."""
        return tuple(self.values.shape[1:])

    @property
    def class_ids(self) -> tuple[str, ...]:
        return tuple(class_id for class_id, _ in self.object_ids)

    def select(self, rows: Sequence[int]) -> EmbeddingSet:
        """Some rows, in the order given."""

        def pick(names: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(names[row] for row in rows)

        return EmbeddingSet(
            self.values[torch.as_tensor(list(rows), dtype=torch.int64)],
            pick(self.object_ids),
            pick(self.families),
            pick(self.paths),
            pick(self.hashes),
            self.encoder,
        )

    def by_family(self) -> dict[str, EmbeddingSet]:
        """A set for each family, in the order in which they first appear."""
        rows: dict[str, list[int]] = {}
        for row, family in enumerate(self.families):
            rows.setdefault(family, []).append(row)
        return {family: self.select(members) for family, members in rows.items()}

    @property
    def rows(self) -> Mapping[str, Mapping[str, int]]:
        """Object id, bare and as ``class_id/nerf_id``, -> family -> row; the first of rows that stand for the same."""
        return self._index[0]

    @property
    def ambiguous(self) -> frozenset[str]:
        """Bare ids that mean several objects; `rows` has those with their class only."""
        return self._index[1]

    @property
    def repeated(self) -> tuple[str, ...]:
        """One sentence for each row whose object and family an earlier row has."""
        return self._index[2]

    @functools.cached_property
    def _index(self) -> _Index:
        rows: dict[str, dict[str, int]] = {}
        classes: dict[str, set[str]] = {}
        repeated = []
        for row, ((class_id, nerf_id), family) in enumerate(zip(self.object_ids, self.families, strict=True)):
            name = f"{class_id}/{nerf_id}" if class_id else nerf_id
            classes.setdefault(nerf_id, set()).add(class_id)
            if rows.setdefault(name, {}).setdefault(family, row) != row:
                repeated.append(f"{self.paths[row] or name}: {name} is there twice as {family}; the first is used")
            elif class_id:
                rows.setdefault(nerf_id, {}).setdefault(family, row)
        ambiguous = frozenset(nerf_id for nerf_id, found in classes.items() if len(found) > 1)
        return {name: found for name, found in rows.items() if name not in ambiguous}, ambiguous, tuple(repeated)

    def families_of(self, object_ids: Sequence[str]) -> list[str]:
        """The families in which every one of these objects is there."""
        first, *others = (self.rows.get(object_id, {}) for object_id in object_ids)
        return [family for family in first if all(family in other for other in others)]

    def lookup(self, object_ids: Sequence[str], family: str) -> Tensor:
        """Embeddings ``(len(object_ids), *row_shape)`` of objects in a family. Raises `KeyError` for what is not there."""
        return self.values[[self.rows[object_id][family] for object_id in object_ids]]


def shape_text(shape: Sequence[int]) -> str:
    """The shape of a row for a message: ``1024``, or ``65 x 1024``."""
    return " x ".join(map(str, shape))


def family_of(path: StrPath) -> str | None:
    """The family that the directories of a NeRF tell, None where it is not in the released layout."""
    directory = _family_directory(path)
    if directory.name in FAMILY_NAMES:
        return FAMILY_NAMES[directory.name]
    if directory.parent.name.endswith("_unseen"):
        return f"{directory.parent.name}/{directory.name}"
    return None


def _family_directory(path: StrPath) -> Path:
    path = Path(path)
    directory = path.parent if path.suffix in (".pth", ".pt", ".safetensors") else path
    return directory.parent.parent


def join_embeddings(sets: Iterable[EmbeddingSet]) -> EmbeddingSet:
    """All rows of several sets, float32. Raises `ValueError` where they are of different shapes, or there are none."""
    members = list(sets)
    shapes = sorted({each.row_shape for each in members})
    if len(shapes) != 1:
        found = f"embeddings {' and '.join(map(shape_text, shapes))} wide" if shapes else "no embeddings"
        raise ValueError(f"{found} cannot be joined; expected embeddings of one encoder")
    encoders = {each.encoder for each in members}

    def chain(name: str) -> tuple[Any, ...]:
        return tuple(value for each in members for value in getattr(each, name))

    return EmbeddingSet(
        torch.cat([each.values.float() for each in members]),
        chain("object_ids"),
        chain("families"),
        chain("paths"),
        chain("hashes"),
        encoders.pop() if len(encoders) == 1 else "",
        chain("problems"),
    )
