"""The classes of ShapeNetRender in label order, their names and labels (docs/released_format.md#classes)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gmn_encoder.objects.procedural.catalogue import CLASS_IDS as SYNSETS

CLASS_IDS: tuple[str, ...] = tuple(SYNSETS.values())
"""Synsets, label 0 first."""

_NAMES = {synset: name for name, synset in SYNSETS.items()}


def class_name(class_id: str) -> str:
    """``airplane`` for ``02691156``; a class that is not in the table is called by its id."""
    return _NAMES.get(class_id, class_id)


def label_order(class_ids: Iterable[str]) -> tuple[str, ...]:
    """The classes that labels number: the whole table where all given are in it, else the given ones, sorted."""
    found = set(class_ids)
    return CLASS_IDS if found <= set(CLASS_IDS) else tuple(sorted(found))


def labels_of(class_ids: Sequence[str], classes: Sequence[str], *, what: str) -> Tensor:
    """int64 labels. Raises `ValueError` naming the first class that is unknown."""
    numbers = {class_id: label for label, class_id in enumerate(classes)}
    for row, class_id in enumerate(class_ids):
        if class_id not in numbers:
            raise ValueError(
                f"{what} has class {class_id!r} in row {row}, which the classifier does not know; "
                f"expected one of {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"
            )
    return torch.tensor([numbers[class_id] for class_id in class_ids], dtype=torch.int64)
