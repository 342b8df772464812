"""Whitening within groups: what tells the members of a group apart, without what tells groups apart.

Shapes: N values, D their size, K directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def whitening_within_groups(values: Tensor, groups: Sequence[Any] | Tensor, *, floor: float) -> tuple[Tensor, Tensor]:
    """A centre and directions along which the members of a group have, on average over groups, a deviation of one.

    Args:
        values: ``(N, D)``, float.
        groups: label of each value's group, ``(N,)``: words or numbers.
        floor: share of the largest deviation that smaller ones count as at least.

    Returns:
        the mean of the groups' means ``(D,)`` and directions ``(K, D)`` in the dtype of `values`, that of the widest spread last.
        Directions are orthogonal to all differences of the groups' means (where there are many groups, to the largest, so that
        half of the directions are left); they are zero where no member of a group differs from another.
    """
    groups, count = _numbered(groups, values.device)
    sums = values.new_zeros(count, values.shape[1]).index_add_(0, groups, values)
    means = sums / torch.bincount(groups, minlength=count)[:, None]
    centre = means.mean(dim=0)
    # Rows of the full basis beyond the first ones are orthogonal to all differences of group means.
    basis = torch.linalg.svd(means - centre, full_matrices=True)[2][min(count - 1, values.shape[1] // 2) :]
    within = (values - means[groups]) @ basis.T
    variance, axes = torch.linalg.eigh(within.T @ within / len(within))
    deviation = variance.clamp(min=0).sqrt()
    largest = float(deviation.max())
    if not largest > 0:
        return centre, torch.zeros_like(basis)
    return centre, (axes / deviation.clamp(min=floor * largest)).T @ basis


def _numbered(labels: Sequence[Any] | Tensor, device: torch.device) -> tuple[Tensor, int]:
    """Group numbers int64 ``(N,)`` of labels, in the order of the sorted labels, and how many groups there are."""
    listed = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    numbers = {label: number for number, label in enumerate(sorted(set(listed)))}
    return torch.tensor([numbers[label] for label in listed], device=device), len(numbers)
