"""Weighted sums of table rows, for the training fields of families with tables: one gather, one scatter.

Pairs of floats are read as complex numbers, which halves the number of elements that are moved.

Shapes: N table rows, C channels, K corners, M points of all NeRFs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def interpolate(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """``(M, C)`` sums of K rows of ``table (N, C)`` at ``index (K, M)``, times ``weights (K, M)``. Differentiable in the table.

    The gradient is summed in a fixed order on every device.
    """
    return _Interpolate.apply(table, index, weights)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(index, weights)
        ctx.shape = table.shape
        if table.shape[1] > 2:  # for short rows the other way is faster
            bags = index.T.contiguous(), weights.T.contiguous()
            return F.embedding_bag(bags[0], table, per_sample_weights=bags[1], mode="sum")
        rows = _floats(_cells(table).index_select(0, _cell_index(index, table.shape[1])))
        rows = rows.view(len(index), -1).mul_(_spread(weights, table.shape[1]))
        return rows.sum(dim=0).view(-1, table.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, weights = ctx.saved_tensors
        channels = ctx.shape[1]
        values = _cells(_spread(weights, channels).mul_(gradients[0].reshape(1, -1)).view(-1, channels))
        cells = _cell_index(index, channels)
        total = values.new_zeros(math.prod(ctx.shape) // (2 if values.is_complex() else 1))
        if not values.is_cuda:
            return _floats(total.index_add_(0, cells, values)).view(ctx.shape), None, None
        # index_add_ adds in any order there, index_put_ sorts first.
        flat = _floats(total).view(len(total), -1)
        flat.index_put_((cells.long(),), _floats(values).view(len(values), -1), accumulate=True)
        return flat.view(ctx.shape), None, None


def _cells(rows: Tensor) -> Tensor:
    """The ``(N, C)`` floats as pairs, flat complex; as they are, flat, where C is odd."""
    if rows.shape[1] % 2:
        return rows.reshape(-1)
    return torch.view_as_complex(rows.reshape(-1, 2).contiguous())


def _floats(cells: Tensor) -> Tensor:
    return torch.view_as_real(cells) if cells.is_complex() else cells


def _spread(weights: Tensor, channels: int) -> Tensor:
    """``(K, M)`` to ``(K, M * C)``, each repeated, in new memory."""
    return weights.new_empty(*weights.shape, channels).copy_(weights[..., None]).flatten(1)


def _cell_index(index: Tensor, channels: int) -> Tensor:
    width = channels if channels % 2 else channels // 2
    if width == 1:
        return index.flatten()
    return (index[..., None] * width + torch.arange(width, device=index.device, dtype=index.dtype)).flatten()
