"""The contrastive loss: sigmoid loss over all pairs of a batch (SigLIP).

Source: the paper's equation 3 and Zhai et al. (2023), as the released code has it (docs/released_format.md#siglip):

    logits_ik = exp(scale) * cosine(a_i, b_k) + shift
    loss = -1/N sum_i sum_k log sigmoid(l_ik logits_ik)      l_ik = 1 for i = k, else -1

Three forms give the same numbers: all logits at once; `chunk_size` rows of them at a time, whose memory does not grow with the
square of the batch; and, over several processes, each its own rows against the columns of all, which travel round a ring
together with their gradients, so that no process ever holds more than a chunk of logits and its neighbour's rows.

Shapes: N pairs (n of one process), D embedding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def siglip_loss(
    a: Tensor, b: Tensor, scale: Tensor | float, shift: Tensor | float, *, chunk_size: int | None = None
) -> Tensor:
    """The loss of N pairs, row i of `a` with row i of `b`.

    Args:
        a, b: embeddings ``(N, D)``, not necessarily normalised; half precision is computed in float32.
        scale: logarithm of the factor of the cosines.
        shift: number added to every logit.
        chunk_size: rows of logits at a time; None: all.

    Returns:
        a scalar, differentiable in embeddings, scale and shift.

    Raises:
        ValueError: embeddings of different shapes, none, or a chunk under one row.
    """
    _check(a, b, chunk_size)
    a, b = _normalised(a), _normalised(b)
    scale, shift = _scalar(scale, a), _scalar(shift, a)
    if chunk_size is None or chunk_size >= len(a):
        logits = torch.exp(scale) * (a @ b.T) + shift
        return -F.logsigmoid(logits * _labels(logits, 0)).sum() / len(a)
    return _PairwiseLoss.apply(a, b, scale, shift, chunk_size, None) / len(a)


def siglip_loss_across(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    chunk_size: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """The loss of the pairs of all processes, each giving its own ``(n, D)``, the same n everywhere.

    Returns:
        this process' share: the mean over processes is `siglip_loss` of all rows together, and so is the mean of the
        gradients, which is what `DistributedDataParallel` takes. The gradient of `b` holds what the other processes' rows
        contribute to it. With one process, or none started, this is `siglip_loss`.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return siglip_loss(a, b, scale, shift, chunk_size=chunk_size)
    _check(a, b, chunk_size)
    a, b = _normalised(a), _normalised(b)
    ring = group if group is not None else dist.group.WORLD
    # Of W processes with n rows each: W / (W n) of the own rows' sum.
    return _PairwiseLoss.apply(a, b, _scalar(scale, a), _scalar(shift, a), chunk_size or len(a), ring) / len(a)


class SiglipLoss(nn.Module):
    """`siglip_loss_across` with its two learnt numbers, named as in the released state dict.

    Args:
        temperature: initial value of exp(scale).
        shift: initial value of the shift.
        chunk_size: rows of logits at a time.
    """

    def __init__(self, *, temperature: float = 10.0, shift: float = -10.0, chunk_size: int | None = None) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected a positive number, the start of exp(scale)")
        self.scale = nn.Parameter(torch.tensor(math.log(temperature)))
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.chunk_size = chunk_size

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return siglip_loss_across(a, b, self.scale, self.shift, chunk_size=self.chunk_size)


class InfoNceLoss(nn.Module):
    """Which of the other side's embeddings is the same object, by cross-entropy, both ways (van den Oord et al., 2018).

    Logits are cosines times a learnt factor of at most 50. Each process has its own pairs only.

    Args:
        temperature: initial value of the factor.
    """

    _LARGEST = 50.0

    def __init__(self, *, temperature: float = 10.0) -> None:
        super().__init__()
        if not 0 < temperature <= self._LARGEST:
            raise ValueError(f"temperature is {temperature}; expected more than 0 and at most {self._LARGEST:.0f}")
        self.scale = nn.Parameter(torch.tensor(math.log(temperature)))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The loss of pairs ``(N, D)``, row i of `a` with row i of `b`; shapes and errors as of `siglip_loss`."""
        _check(a, b, None)
        a, b = _normalised(a), _normalised(b)
        logits = torch.exp(_scalar(self.scale, a)).clamp(max=self._LARGEST) * (a @ b.T)
        own = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class _PairwiseLoss(torch.autograd.Function):
    """Sum over own rows and all columns. The gradients are worked out on the way: each chunk of logits is seen once."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, shift: Tensor, chunk_size: int, group: Any) -> Tensor:
        rank, size = (dist.get_rank(group), dist.get_world_size(group)) if group is not None else (0, 1)
        grad_a = torch.zeros_like(a)
        total, grad_scale, grad_shift = a.new_zeros(3, dtype=torch.float64).unbind()
        # The columns at hand and what is known of their gradient, which go on to the next process after each turn.
        travelling = torch.stack([b, torch.zeros_like(b)])
        factor = torch.exp(scale)
        for turn in range(size):
            columns, grad_columns = travelling
            for start in range(0, len(a), chunk_size):
                rows = a[start : start + chunk_size]
                cosine = rows @ columns.T
                logits = factor * cosine + shift
                labels = _labels(logits, start) if turn == 0 else -torch.ones_like(logits)
                total = total - F.logsigmoid(logits * labels).sum(dtype=torch.float64)
                grad = -labels * torch.sigmoid(-labels * logits)
                grad_scale = grad_scale + (grad * cosine).sum(dtype=torch.float64) * factor
                grad_shift = grad_shift + grad.sum(dtype=torch.float64)
                grad_a[start : start + chunk_size] += factor * (grad @ columns)
                grad_columns += factor * (grad.T @ rows)
            if size > 1:
                travelling = _pass_on(travelling, rank, size, group)
        ctx.save_for_backward(grad_a, travelling[1], grad_scale.to(a.dtype), grad_shift.to(a.dtype))
        return total.to(a.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *(grad_outputs[0] * gradient for gradient in ctx.saved_tensors), None, None


def _pass_on(tensor: Tensor, rank: int, size: int, group: Any) -> Tensor:
    """Send a tensor to the next process of the ring and receive the previous one's."""
    received = torch.empty_like(tensor)
    to, source = (dist.get_global_rank(group, peer % size) for peer in (rank + 1, rank - 1))
    operations = [dist.P2POp(dist.isend, tensor, to, group), dist.P2POp(dist.irecv, received, source, group)]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    return received


def _labels(logits: Tensor, first_row: int) -> Tensor:
    """1 where a row meets its own column, -1 elsewhere."""
    rows = torch.arange(first_row, first_row + logits.shape[0], device=logits.device)
    return torch.where(rows[:, None] == torch.arange(logits.shape[1], device=logits.device), 1.0, -1.0).to(logits.dtype)


def _normalised(x: Tensor) -> Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    # No epsilon, as released. An embedding of zeros has no direction: it gets the zero vector, not NaN.
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.where(norm > 0, 1.0)


def _scalar(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, device=like.device).to(like.dtype)


def _check(a: Tensor, b: Tensor, chunk_size: int | None) -> None:
    if a.ndim != 2 or a.shape != b.shape or not len(a):
        raise ValueError(
            f"embeddings have shapes {list(a.shape)} and {list(b.shape)}; expected (N, D) twice, N at least 1"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1 row of logits at a time")
