"""Triton kernels of compositing, forward and backward: one program sums one ray, some samples at a time.

`rendering.compositing.composite_reference` is their specification. Running sums start anew at each ray, so float32 does.

With q_i = dL/dcolour . c_i + dL/dopacity + dL/ddepth m_i, the gradient of the optical depth is
``q_i T_i exp(-x_i) - sum_{j>i} w_j q_j``, and the sum over all j is known from the forward pass: it is
``dL/dcolour . colour + dL/dopacity opacity + dL/ddepth depth``. So the backward pass, too, goes front to back, once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_SAMPLES = 64
_OPAQUE = 104.0  # optical depth at which float32 transmittance is zero


@triton.jit
def _weights(density, t_starts, t_ends, index, inside, passed, OPAQUE: tl.constexpr):
    """Length, middle, optical depth, transmittance and weight of some samples of a ray."""
    start = tl.load(t_starts + index, mask=inside, other=0.0)
    end = tl.load(t_ends + index, mask=inside, other=0.0)
    length = end - start
    optical = tl.load(density + index, mask=inside, other=0.0) * length
    optical = tl.where(optical > OPAQUE, OPAQUE, optical)  # keeps NaN
    light = tl.exp(-(passed + (tl.cumsum(optical, 0) - optical)))
    # 1 - exp(-x) without cancellation.
    series = optical * (1.0 - optical * (0.5 - optical * (1.0 / 6.0)))
    alpha = tl.where(optical < 0.01, series, 1.0 - tl.exp(-optical))
    return length, (start + end) * 0.5, optical, light, light * alpha


@triton.jit
def _forward_kernel(
    rgb, density, t_starts, t_ends, offsets, colour, opacity, depth, SAMPLES: tl.constexpr, OPAQUE: tl.constexpr
):
    ray = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + ray)
    last = tl.load(offsets + ray + 1)
    lane = tl.arange(0, SAMPLES)
    zero = tl.zeros([SAMPLES], tl.float32)
    red, green, blue, total, distance = zero, zero, zero, zero, zero
    passed = tl.sum(zero, axis=0)
    while first < last:
        index = first + lane
        inside = index < last
        _, middle, optical, _, weight = _weights(density, t_starts, t_ends, index, inside, passed, OPAQUE)
        red += weight * tl.load(rgb + index * 3, mask=inside, other=0.0)
        green += weight * tl.load(rgb + index * 3 + 1, mask=inside, other=0.0)
        blue += weight * tl.load(rgb + index * 3 + 2, mask=inside, other=0.0)
        total += weight
        distance += weight * middle
        passed += tl.sum(optical, axis=0)
        first += SAMPLES
    tl.store(colour + ray * 3, tl.sum(red, axis=0))
    tl.store(colour + ray * 3 + 1, tl.sum(green, axis=0))
    tl.store(colour + ray * 3 + 2, tl.sum(blue, axis=0))
    tl.store(opacity + ray, tl.sum(total, axis=0))
    tl.store(depth + ray, tl.sum(distance, axis=0))


@triton.jit
def _backward_kernel(
    rgb,
    density,
    t_starts,
    t_ends,
    offsets,
    colour,
    opacity,
    depth,
    grad_colour,
    grad_opacity,
    grad_depth,
    grad_rgb,
    grad_density,
    SAMPLES: tl.constexpr,
    OPAQUE: tl.constexpr,
):
    ray = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + ray)
    last = tl.load(offsets + ray + 1)
    lane = tl.arange(0, SAMPLES)
    g_red = tl.load(grad_colour + ray * 3)
    g_green = tl.load(grad_colour + ray * 3 + 1)
    g_blue = tl.load(grad_colour + ray * 3 + 2)
    g_opacity = tl.load(grad_opacity + ray)
    g_depth = tl.load(grad_depth + ray)
    # What the samples from here on contribute to the loss; first all of them.
    later = g_red * tl.load(colour + ray * 3) + g_green * tl.load(colour + ray * 3 + 1)
    later += g_blue * tl.load(colour + ray * 3 + 2)
    later += g_opacity * tl.load(opacity + ray) + g_depth * tl.load(depth + ray)
    passed = g_red * 0.0
    while first < last:
        index = first + lane
        inside = index < last
        length, middle, optical, light, weight = _weights(density, t_starts, t_ends, index, inside, passed, OPAQUE)
        gain = g_red * tl.load(rgb + index * 3, mask=inside, other=0.0)
        gain += g_green * tl.load(rgb + index * 3 + 1, mask=inside, other=0.0)
        gain += g_blue * tl.load(rgb + index * 3 + 2, mask=inside, other=0.0)
        gain += g_opacity + g_depth * middle
        share = weight * gain
        behind = later - tl.cumsum(share, 0)
        tl.store(grad_density + index, (gain * light * tl.exp(-optical) - behind) * length, mask=inside)
        tl.store(grad_rgb + index * 3, weight * g_red, mask=inside)
        tl.store(grad_rgb + index * 3 + 1, weight * g_green, mask=inside)
        tl.store(grad_rgb + index * 3 + 2, weight * g_blue, mask=inside)
        later -= tl.sum(share, axis=0)
        passed += tl.sum(optical, axis=0)
        first += SAMPLES


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rgb: Tensor, density: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = tuple(tensor.contiguous() for tensor in (rgb, density, t_starts, t_ends, offsets))
        rays = len(offsets) - 1
        outputs = (density.new_empty(rays, 3), density.new_empty(rays), density.new_empty(rays))
        if rays:
            _forward_kernel[(rays,)](*inputs, *outputs, SAMPLES=_SAMPLES, OPAQUE=_OPAQUE)
        ctx.save_for_backward(*inputs, *outputs)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        rgb, density = ctx.saved_tensors[:2]
        grad_rgb, grad_density = torch.empty_like(rgb), torch.empty_like(density)
        if len(gradients[1]):
            _backward_kernel[(len(gradients[1]),)](
                *ctx.saved_tensors,
                *(gradient.contiguous() for gradient in gradients),
                grad_rgb,
                grad_density,
                SAMPLES=_SAMPLES,
                OPAQUE=_OPAQUE,
            )
        return grad_rgb, grad_density, None, None, None


def composite_kernel(
    rgb: Tensor, density: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`composite_reference` by the kernels, float32: colours ``(S, 3)``, densities ``(S,)`` and borders of packed samples.

    Args:
        offsets: int64 ``(R + 1,)``, where each ray's samples begin, and S.

    Returns:
        colour ``(R, 3)``, opacity ``(R,)`` and depth ``(R,)``; differentiable in colours and densities.
    """
    return _Composite.apply(rgb, density, t_starts, t_ends, offsets)
