"""Samples on rays: what marching gives and compositing takes. Shapes: R rays, S samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .cameras import Rays


@dataclass(frozen=True, eq=False)
class Samples:
    """S samples on R rays, packed: ray after ray, front to back.

    Attributes:
        ray_index: int64 ``(S,)``, not decreasing.
        t_starts, t_ends: ``(S,)`` distances along the ray, world units.
        counts: int64 ``(R,)`` samples of each ray.
    """

    ray_index: Tensor
    t_starts: Tensor
    t_ends: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.ray_index)

    @property
    def num_rays(self) -> int:
        return len(self.counts)

    @property
    def middles(self) -> Tensor:
        """``(S,)``: the distance at which a sample is evaluated."""
        return (self.t_starts + self.t_ends) * 0.5

    @cached_property
    def offsets(self) -> Tensor:
        """int64 ``(R + 1,)``: where each ray's samples begin, and S."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def positions(self, rays: Rays) -> Tensor:
        """World coordinates ``(S, 3)`` of the samples."""
        origins, directions = pick(self.ray_index, rays.origins, rays.directions)
        return torch.addcmul(origins, directions, self.middles[:, None])

    def select(self, keep: Tensor) -> Samples:
        """The samples where the bool mask ``(S,)`` holds, on the same rays."""
        kept = keep.nonzero()[:, 0]
        ray_index, t_starts, t_ends = pick(kept, self.ray_index, self.t_starts, self.t_ends)
        return Samples(ray_index, t_starts, t_ends, torch.bincount(ray_index, minlength=self.num_rays))

    def to(self, device: torch.device | str) -> Samples:
        """The same samples on another device; the copy does not wait."""
        parts = (self.ray_index, self.t_starts, self.t_ends, self.counts)
        return Samples(*(part.to(device, non_blocking=True) for part in parts))


def pick(index: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of each tensor that `index` ``(A,)`` names."""
    return tuple(tensor.index_select(0, index) for tensor in tensors)
