"""The order of samples: from seed and epoch alone, so that a resumed run sees what an uninterrupted one would have seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

_BATCHES = 50


class SeededSampler(Sampler[int]):
    """A permutation for each epoch; where `batch` is given, one in which samples of like length stand together.

    Grouped, the permutation is cut into pieces of 50 batches, each sorted by length; the batches of a piece are then put in
    random order, so that neither short nor long samples come first.

    Args:
        lengths: lengths of the samples in tokens, int64 ``(n,)``.
        seed: seed that, with the epoch, decides the order.
        batch: samples of a step over all devices; None for a plain permutation.
    """

    def __init__(self, lengths: np.ndarray, *, seed: int = 0, batch: int | None = None) -> None:
        self.lengths, self.seed, self.batch = np.asarray(lengths), seed, batch
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        if self.batch is not None:
            order = self._grouped(order, self.batch, random)
        return iter(order.tolist())

    def _grouped(self, order: np.ndarray, batch: int, random: np.random.Generator) -> np.ndarray:
        batches = []
        for start in range(0, len(order), _BATCHES * batch):
            piece = order[start : start + _BATCHES * batch]
            piece = piece[np.argsort(-self.lengths[piece], kind="stable")]
            batches += [piece[at : at + batch] for at in range(0, len(piece), batch)]
        whole = [each for each in batches if len(each) == batch]
        rest = [each for each in batches if len(each) < batch]  # at most one, which stays last
        return np.concatenate([*(whole[i] for i in random.permutation(len(whole))), *rest])


def padded_tokens(lengths: np.ndarray, sampler: SeededSampler, batch: int) -> int:
    """Tokens of an epoch's batches with their padding."""
    ordered = np.asarray(lengths)[list(sampler)]
    return int(
        sum(ordered[at : at + batch].max() * len(ordered[at : at + batch]) for at in range(0, len(ordered), batch))
    )
