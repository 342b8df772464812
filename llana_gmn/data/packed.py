"""Several conversations about one NeRF in one sample: the prompt and the NeRF stand there once, and are paid for once.

Behind the common beginning each conversation is a branch, which sees the beginning and itself and not the other branches, and
whose positions go on from the beginning's end. Every token so has the output that it has in a sample of its own, and the loss is
that of the conversations one by one (causal attention; the backbone's attention must take masks, as sdpa does).

Shapes: L tokens, P tokens of the common beginning, B samples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor


def common_beginning(rows: Sequence[np.ndarray], learned: Sequence[np.ndarray]) -> int:
    """How many tokens all of some conversations begin with, before anything is learned from.

    Args:
        rows: token ids of each.
        learned: whether each token is learned from.
    """
    most = min(int(mask.argmax()) if mask.any() else len(mask) for mask in learned)
    first = rows[0][:most]
    for other in rows[1:]:
        different = np.nonzero(first != other[: len(first)])[0] if len(other) >= len(first) else [0]
        first = first[: different[0]] if len(different) else first
    return len(first)


def packed_groups(members: Sequence[tuple[Hashable, int, int]], *, most: int, seed: int) -> list[list[int]]:
    """Which conversations share a sample.

    Args:
        members: of each conversation what it is about (None for one that stays alone), its tokens, and those of its beginning.
        most: most tokens of a sample.
        seed: seed of the choice.

    Returns:
        places in `members`, a list for each sample; samples in the order of what they are about.
    """
    random = np.random.default_rng(seed)
    by_key: dict[Hashable, list[int]] = {}
    for place, (key, _, _) in enumerate(members):
        by_key.setdefault(("alone", place) if key is None else key, []).append(place)
    groups: list[list[int]] = []
    for places in by_key.values():
        tokens = most + 1
        for place in (places[i] for i in random.permutation(len(places))):
            _, length, beginning = members[place]
            if tokens + length - beginning > most:
                groups.append([])
                tokens = beginning
            groups[-1].append(place)
            tokens += length - beginning
    return groups


def attention_of(branches: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Positions, and who sees whom.

    Args:
        branches: the branch of each token ``(B, L)`` int64, 0 in the common beginning; a sample without branches is all that.
        lengths: tokens of each sample ``(B,)``, the rest is padding.

    Returns:
        positions ``(B, L)`` int64 and a mask ``(B, 1, L, L)``, true where a row's token sees a column's.
    """
    places = torch.arange(branches.shape[1])
    starts = torch.cat([torch.ones_like(branches[:, :1], dtype=torch.bool), branches[:, 1:] != branches[:, :-1]], dim=1)
    start = torch.where(starts, places, 0).cummax(dim=1).values
    beginning = (branches == 0).long().cumprod(dim=1).sum(dim=1, keepdim=True)
    positions = places - start + torch.where(branches > 0, beginning, 0)
    column, row = branches[:, None, :], branches[:, :, None]
    seen = (places[None, :] <= places[:, None]) & ((column == 0) | (column == row))
    # Padding sees itself, so that every row has something to see.
    there = places < lengths[:, None]
    seen = (seen & there[:, None, :]) | torch.eye(branches.shape[1], dtype=torch.bool)
    return positions * there, seen[:, None]
