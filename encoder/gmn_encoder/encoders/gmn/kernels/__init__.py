"""The heavy operations of the dense encoder: plain torch as the specification, fused Triton kernels on CUDA.

`edge_update` and `readout_sum` take the fused kernel for CUDA tensors whose widths it supports, and plain torch for all else.
Importing this package builds nothing and needs no Triton.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....extras import has_triton
from . import reference


def _fusable(edge: Tensor) -> bool:
    width = edge.shape[-1]
    supported = (
        edge.dtype in (torch.float32, torch.bfloat16, torch.float16) and width >= 16 and width & (width - 1) == 0
    )
    return edge.is_cuda and supported and has_triton()


def _dispatched(name: str) -> Callable[..., Any]:
    plain = getattr(reference, name)

    @functools.wraps(plain)
    def run(edge: Tensor, *arguments: Any, **options: Any) -> Any:
        if not _fusable(edge):
            return plain(edge, *arguments, **options)
        from . import fused

        return getattr(fused, name)(edge, *arguments, **options)

    return run


edge_update = _dispatched("edge_update")
readout_sum = _dispatched("readout_sum")

__all__ = ["edge_update", "readout_sum"]
