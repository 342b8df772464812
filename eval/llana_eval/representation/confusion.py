"""Confusion matrices, and the accuracies they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..classes import class_name
from ..tables import Cell, Column, Table


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of true and predicted labels.

    Attributes:
        counts: int64 ``(C, C)``, rows are the truth, columns what was predicted.
        class_ids: the C classes in label order.
    """

    counts: Tensor
    class_ids: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """The fraction of samples that are right (the micro average, as the paper's)."""
        return float(self.counts.trace()) / int(self.counts.sum())

    @property
    def class_accuracies(self) -> list[float | None]:
        """The fraction of each class's samples that are right, None for a class without samples."""
        totals = self.counts.sum(dim=1).tolist()
        right = self.counts.diagonal().tolist()
        return [r / total if total else None for r, total in zip(right, totals, strict=True)]

    @property
    def macro_accuracy(self) -> float:
        """The mean of the accuracies of the classes that have samples."""
        values = [value for value in self.class_accuracies if value is not None]
        return sum(values) / len(values)

    def table(self, title: str) -> Table:
        """Per-class accuracy in percent beside the row of the matrix, of the classes that are there or were predicted."""
        used = [i for i in range(len(self.class_ids)) if int(self.counts[i].sum() + self.counts[:, i].sum())]
        columns: list[str | Column] = ["class", "samples", Column("accuracy", digits=1)]
        columns += [f"as {class_name(self.class_ids[i])}" for i in used]
        rows: list[Sequence[Cell]] = []
        for i in used:
            accuracy = self.class_accuracies[i]
            percent = None if accuracy is None else 100 * accuracy
            counts = [int(self.counts[i, j]) for j in used]
            rows.append([class_name(self.class_ids[i]), int(self.counts[i].sum()), percent, *counts])
        return Table(title, columns, rows)


def confusion(truth: Tensor, predicted: Tensor, class_ids: Sequence[str]) -> Confusion:
    """Count labels int64 ``(n,)`` against predictions ``(n,)``.

    Raises:
        ValueError: none at all, other counts, labels outside the classes.
    """
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"there are {list(truth.shape)} labels and {list(predicted.shape)} predictions; expected one prediction a label"
        )
    if not len(truth):
        raise ValueError("there are no labels; expected at least one")
    size = len(class_ids)
    both = torch.stack([truth, predicted]).cpu().long()
    if int(both.min()) < 0 or int(both.max()) >= size:
        raise ValueError(f"labels run from {int(both.min())} to {int(both.max())}; expected 0 to {size - 1}")
    counts = torch.bincount(both[0] * size + both[1], minlength=size * size).view(size, size)
    return Confusion(counts, tuple(class_ids))
