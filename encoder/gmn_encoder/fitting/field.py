"""NeRFs while they are trained: the architecture's training field behind the interface of a `NerfBatch`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..nerfs.record import NerfBatch


@dataclass(frozen=True, eq=False)
class TrainedBatch(NerfBatch):
    """A `NerfBatch` whose queries are made for training: float32, differentiable in the weights, not in the coordinates.

    Attributes:
        frequencies: octaves of the frequency encoding that are computed; None: all. The columns of the rest must be zero.
    """

    frequencies: int | None = None

    def query(self, xyz: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `NerfBatch.query`, for points ``(B, S, 3)``."""
        return self.architecture.training_query(self.tensors, xyz, directions, frequencies=self.frequencies)
