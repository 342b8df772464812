"""Triton kernels for the dense encoder, whose specification is `reference.py`.

Each kernel reads a tile of edges once and keeps everything in between in registers and shared memory: a message-passing layer
is one read and one write of the edges instead of some fifteen, and the 1024-wide readout never leaves the chip. Sums over edges
are written as one partial per tile and added up afterwards, so that results do not depend on the order of the blocks.

The backward passes recompute through the plain torch twins: what is kept between the passes is a layer's input alone.

Tiles: M edges of one target (layer) or of one NeRF (readout), H hidden, N columns of the readout at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import reference

# Edges a layer's program takes, and edges x columns of a readout's, by dtype: what fits into Hopper's shared memory.
EDGE_TILE = 64
_READOUT_TILES = {torch.float32: (64, 32)}
_HALF_READOUT_TILE = (128, 128)


def readout_tile(dtype: torch.dtype) -> tuple[int, int]:
    """Edges and columns that a program of the readout kernel takes at a time."""
    return _READOUT_TILES.get(dtype, _HALF_READOUT_TILE)


@triton.jit
def _edge_update_kernel(
    edge,
    source,
    target,
    weight,
    out_weight,
    out_bias,
    message_source,
    message_weight,
    out,
    partial,
    sources,
    source_batch_stride,
    message_batch_stride,
    targets,
    eps,
    H: tl.constexpr,
    M: tl.constexpr,
    HAS_MESSAGE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)  # which (NeRF, target)
    tile = tl.program_id(1)
    batch = row // targets
    rows = tile * M + tl.arange(0, M)
    columns = tl.arange(0, H)
    inside = (rows < sources)[:, None]
    offsets = row * sources * H + rows[:, None] * H + columns[None, :]
    square = columns[:, None] * H + columns[None, :]

    edges = tl.load(edge + offsets, mask=inside, other=0.0)
    wide = edges.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, axis=1) / H + eps)
    linear = tl.dot(edges, tl.load(weight + square), input_precision=PRECISION) * inverse[:, None]
    nodes = rows[:, None] * H + columns[None, :]
    linear += tl.load(source + batch * source_batch_stride + nodes, mask=inside, other=0.0).to(tl.float32)
    linear += tl.load(target + row * H + columns).to(tl.float32)[None, :]
    update = tl.maximum(linear, 0.0)
    if HAS_MESSAGE:
        message = tl.dot(update.to(edges.dtype), tl.load(message_weight + square), input_precision=PRECISION)
        message += tl.load(message_source + batch * message_batch_stride + nodes, mask=inside, other=0.0).to(tl.float32)
        message = tl.where(inside, tl.maximum(message, 0.0), 0.0)
        tl.store(partial + (row * tl.num_programs(1) + tile) * H + columns, tl.sum(message, axis=0))
    gated = update * tl.sigmoid(update)
    result = wide + tl.load(out_bias + columns).to(tl.float32)[None, :]
    result += tl.dot(gated.to(edges.dtype), tl.load(out_weight + square), input_precision=PRECISION)
    tl.store(out + offsets, result.to(edges.dtype), mask=inside)


@triton.jit
def _readout_kernel(
    edge,
    weight,
    bias,
    partial,
    edges_per_nerf,
    eps,
    H: tl.constexpr,
    D: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    batch = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    rows = tile * M + tl.arange(0, M)
    columns = tl.arange(0, H)
    inside = (rows < edges_per_nerf)[:, None]
    edges = tl.load(edge + batch * edges_per_nerf * H + rows[:, None] * H + columns[None, :], mask=inside, other=0.0)
    wide = edges.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, axis=1) / H + eps)
    for start in range(0, D, N):
        outputs = start + tl.arange(0, N)
        known = outputs < D
        block = tl.load(weight + columns[:, None] * D + outputs[None, :], mask=known[None, :], other=0.0)
        linear = tl.dot(edges, block, input_precision=PRECISION) * inverse[:, None]
        linear += tl.load(bias + outputs, mask=known, other=0.0).to(tl.float32)[None, :]
        rectified = tl.where(inside, tl.maximum(linear, 0.0), 0.0)
        tl.store(partial + (batch * tl.num_programs(1) + tile) * D + outputs, tl.sum(rectified, axis=0), mask=known)


def precision(dtype: torch.dtype) -> str:
    """float32 products on tensor cores in three parts: as accurate as float32 for our purposes, unlike one TF32 product."""
    return "tf32x3" if dtype == torch.float32 else "tf32"


def _batch_stride(nodes: Tensor) -> int:
    return 0 if nodes.shape[0] == 1 else nodes.stride(0)


def _edge_update_forward(eps: float, tensors: Any) -> tuple[Tensor, Tensor | None]:
    edge, source, target, weight, out_weight, out_bias, message_source, message_weight = tensors
    batch, targets, sources, hidden = edge.shape
    edge, source = edge.contiguous(), source.contiguous()
    target = target.expand(batch, -1, -1).contiguous()
    tiles = triton.cdiv(sources, EDGE_TILE)
    out = torch.empty_like(edge)
    has_message = message_weight is not None and message_source is not None
    message_source = message_source.contiguous() if message_source is not None else source
    partial = (
        torch.empty(batch * targets, tiles, hidden, dtype=torch.float32, device=edge.device) if has_message else edge
    )
    _edge_update_kernel[(batch * targets, tiles)](
        edge,
        source,
        target,
        weight,
        out_weight,
        out_bias,
        message_source,
        message_weight if has_message else weight,
        out,
        partial,
        sources,
        _batch_stride(source),
        _batch_stride(message_source),
        targets,
        eps,
        H=hidden,
        M=EDGE_TILE,
        HAS_MESSAGE=has_message,
        PRECISION=precision(edge.dtype),
        num_warps=4,
    )
    return out, partial.sum(dim=1).view(batch, targets, hidden) / sources if has_message else None


class _EdgeUpdate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, eps: float, *tensors: Tensor | None):
        ctx.save_for_backward(*tensors)
        ctx.eps = eps
        return _edge_update_forward(eps, tensors)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor | None):
        needed = ctx.needs_input_grad[1:]
        tensors: list[Any] = [
            tensor if tensor is None else tensor.detach().requires_grad_(need)
            for tensor, need in zip(ctx.saved_tensors, needed, strict=True)
        ]
        arguments: Any = (*tensors, ctx.eps)
        with torch.enable_grad():
            outputs = reference.edge_update(*arguments)
        pairs = [(o, g) for o, g in zip(outputs, grad_outputs, strict=True) if o is not None and g is not None]
        wanted = [tensor for tensor, need in zip(tensors, needed, strict=True) if need]
        grads = iter(torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True))
        return None, *(next(grads) if need else None for need in needed)


def edge_update(
    edge: Tensor,
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    message_source: Tensor | None,
    message_weight: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor | None]:
    """`reference.edge_update` in one kernel; H must be a power of two of at least 16."""
    return _EdgeUpdate.apply(eps, edge, source, target, weight, out_weight, out_bias, message_source, message_weight)


def _readout_forward(edge: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    batch, edges, hidden = edge.shape
    rows, columns = readout_tile(edge.dtype)
    tiles = triton.cdiv(edges, rows)
    partial = torch.empty(batch, tiles, weight.shape[1], dtype=torch.float32, device=edge.device)
    _readout_kernel[(batch, tiles)](
        edge.contiguous(),
        weight,
        bias,
        partial,
        edges,
        eps,
        H=hidden,
        D=weight.shape[1],
        M=rows,
        N=columns,
        PRECISION=precision(edge.dtype),
        num_warps=8,
    )
    return partial.sum(dim=1)


class _ReadoutSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, edge: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(edge, weight, bias)
        ctx.eps = eps
        return _readout_forward(edge, weight, bias, eps)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        edge, weight, bias = ctx.saved_tensors
        return *reference.readout_sum_backward(edge, weight, bias, ctx.eps, grad_outputs[0]), None


def readout_sum(edge: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`reference.readout_sum` in one kernel; H must be a power of two of at least 16."""
    return _ReadoutSum.apply(edge, weight, bias, eps)
