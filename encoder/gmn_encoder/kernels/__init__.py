"""The heavy operations of the dense encoder: plain torch as the specification, fused Triton kernels on CUDA.

`edge_update` and `readout_sum` take the fused kernel for CUDA tensors whose widths it supports, and plain torch for all else.
Importing this package builds nothing and needs no Triton.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from . import reference


@functools.cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _fusable(edge: Tensor) -> bool:
    width = edge.shape[-1]
    supported = (
        edge.dtype in (torch.float32, torch.bfloat16, torch.float16) and width >= 16 and width & (width - 1) == 0
    )
    return edge.is_cuda and supported and has_triton()


def edge_update(
    edge: Tensor,
    *,
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    message_source: Tensor | None,
    message_weight: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor | None]:
    """One message-passing layer over complete bipartite edges; see `reference.edge_update`."""
    arguments = (edge, source, target, weight, out_weight, out_bias, message_source, message_weight, eps)
    if _fusable(edge):
        from .fused import edge_update as fused_edge_update

        return fused_edge_update(*arguments)
    return reference.edge_update(*arguments)


def readout_sum(edge: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    """Sum over edges of a normalised, widened and rectified readout; see `reference.readout_sum`."""
    if _fusable(edge):
        from .fused import readout_sum as fused_readout_sum

        return fused_readout_sum(edge, weight, bias, eps)
    return reference.readout_sum(edge, weight, bias, eps)


__all__ = ["edge_update", "readout_sum"]
