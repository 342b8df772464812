"""Plain torch: what the fused kernels must match, in values and gradients.

Shapes: B NeRFs, T targets, S sources, H hidden, D embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers in a readout tile, that is (rows, D): in float32 it stays in a 2 MiB cache.
_READOUT_TILE = 512 * 1024


def inverse_rms(edge: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(mean(edge^2) + eps)`` over the last dimension, kept; float32 at least."""
    accumulate = torch.promote_types(edge.dtype, torch.float32)
    norm = torch.linalg.vector_norm(edge, dim=-1, keepdim=True, dtype=accumulate)
    return torch.rsqrt(norm.square() / edge.shape[-1] + eps)


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
    """One message-passing layer over complete bipartite edges.

    ``u = relu(edge / rms(edge) @ weight + source + target)``; ``edge + silu(u) @ out_weight + out_bias``; and, where there
    are messages, the mean over sources of ``relu(u @ message_weight + message_source)``.

    Args:
        edge: edge features ``(B, T, S, H)``, contiguous, centred over H; overwritten where gradients are off.
        source: what edges read of their sources ``(B or 1, S, H)``.
        target: what edges read of their targets ``(B or 1, T, H)``.
        weight, out_weight, message_weight: matrices ``(H, H)`` that multiply from the right.
        out_bias: bias of the written edges ``(H,)``.
        message_source: what messages read of their sources ``(B or 1, S, H)``, or None for a layer without messages.
        eps: epsilon of the layer norm.

    Returns:
        the new edges ``(B, T, S, H)`` and the mean messages ``(B, T, H)`` or None.
    """
    shape = edge.shape
    hidden = shape[-1]
    reuse = not torch.is_grad_enabled()
    inverse = inverse_rms(edge, eps).to(edge.dtype)
    linear = (edge.reshape(-1, hidden) @ weight).view(shape)
    # Scaled after the product, where the scale shares a pass with adding the source.
    update = torch.addcmul(source[:, None], linear, inverse, out=linear if reuse else None)
    update = update.add_(target[:, :, None]).relu_()
    mean = None
    if message_weight is not None and message_source is not None:
        message = (update.view(-1, hidden) @ message_weight).view(shape).add_(message_source[:, None]).relu_()
        mean = message.mean(dim=2, dtype=torch.promote_types(edge.dtype, torch.float32))
    out = edge.add_(out_bias) if reuse else edge + out_bias
    out.view(-1, hidden).addmm_(F.silu(update, inplace=reuse).view(-1, hidden), out_weight)
    return out, mean


class _ReadoutSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, edge: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        accumulate = torch.promote_types(edge.dtype, torch.float32)
        total = edge.shape[1] * bias.to(accumulate).expand(edge.shape[0], -1)
        rows = min(_readout_rows(edge, weight), edge.shape[1])
        # One buffer for all tiles: a large one that is freed goes back to the system and costs page faults again.
        normals = edge.new_empty(edge.shape[0], rows, edge.shape[2])
        linears = edge.new_empty(edge.shape[0], rows, weight.shape[1])
        for part in edge.split(rows, dim=1):
            normal = torch.mul(part, inverse_rms(part, eps).to(part.dtype), out=normals[:, : part.shape[1]])
            linear = torch.matmul(normal, weight, out=linears[:, : part.shape[1]])
            # relu(x + bias) = max(x, -bias) + bias, and the last term can wait: two passes instead of three.
            total += torch.maximum(linear, -bias, out=linear).sum(dim=1, dtype=accumulate)
        ctx.save_for_backward(edge, weight, bias)
        ctx.eps = eps
        return total

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        edge, weight, bias = ctx.saved_tensors
        return *readout_sum_backward(edge, weight, bias, ctx.eps, grad_outputs[0]), None


def readout_sum_backward(
    edge: Tensor, weight: Tensor, bias: Tensor, eps: float, grad_output: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `readout_sum` for edges, weight and bias, given that of its result; recomputes tile by tile."""
    accumulate = torch.promote_types(edge.dtype, torch.float32)
    grad_edge = torch.empty_like(edge)
    grad_weight, grad_bias = torch.zeros_like(weight, dtype=accumulate), torch.zeros_like(bias, dtype=accumulate)
    grad = grad_output.to(edge.dtype)[:, None]
    start = 0
    for part in edge.split(_readout_rows(edge, weight), dim=1):
        inverse = inverse_rms(part, eps).to(part.dtype)
        normal = part * inverse
        grad_linear = grad * (torch.matmul(normal, weight).add_(bias) > 0)
        grad_weight += normal.flatten(0, 1).T @ grad_linear.flatten(0, 1)
        grad_bias += grad_linear.sum(dim=(0, 1), dtype=accumulate)
        grad_normal = torch.matmul(grad_linear, weight.T)
        along = (grad_normal * normal).mean(dim=-1, keepdim=True)
        grad_edge[:, start : start + part.shape[1]] = inverse * (grad_normal - normal * along)
        start += part.shape[1]
    return grad_edge, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)


def _readout_rows(edge: Tensor, weight: Tensor) -> int:
    if edge.device.type == "cpu":
        return max(1, _READOUT_TILE // (edge.shape[0] * weight.shape[1]))
    return max(1, (1 << 16) // edge.shape[0])


def readout_sum(edge: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Sum over edges of ``relu(edge / rms(edge) @ weight + bias)``, in tiles: no ``(edges, D)`` tensor exists.

    Args:
        edge: edge features ``(B, n, H)``, centred over H.
        weight: matrix of the readout ``(H, D)``.
        bias: bias of the readout ``(D,)``.
        eps: epsilon of the layer norm.

    Returns:
        ``(B, D)``, float32 at least. Differentiable; the backward pass recomputes the tiles.
    """
    return _ReadoutSum.apply(edge, weight, bias, eps)
