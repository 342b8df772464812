"""Compositing: from densities and colours of samples to the colours of rays.

Source: the volume rendering quadrature of NeRF, as nerfacc 0.3.5 sums it (docs/released_format.md#compositing). With optical
depths ``x_i = density_i * (t_end_i - t_start_i)``:

    alpha_i = 1 - exp(-x_i)     T_i = exp(-sum_{j<i} x_j)     w_i = T_i alpha_i
    opacity = sum w_i     depth = sum w_i (t_start_i + t_end_i) / 2     colour = sum w_i c_i + background (1 - opacity)

Numerics: sums within rays are differences of one running sum over all samples, which float32 would drown in rounding. The
running sum is float64, an optical depth counts for no more than makes float32 transmittance zero, and a NaN stays in its ray.

On CUDA `composite` is a fused Triton kernel; `composite_reference` is what it must match, in values and gradients.

Shapes: R rays, S samples, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..extras import has_triton
from .samples import Samples

TRANSMITTANCE_THRESHOLD = 1e-4
"""Samples with less transmittance are not rendered (#ray-marching)."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """What R rays see; of images, ``(V, height, width)`` stands for ``(R,)``.

    Attributes:
        colour: ``(R, 3)``, over the background if there was one.
        opacity: ``(R,)`` in 0..1.
        depth: ``(R,)``, the expected distance, not divided by the opacity.
    """

    colour: Tensor
    opacity: Tensor
    depth: Tensor

    def over(self, background: Tensor) -> Rendering:
        """This, seen before a background colour ``(3,)`` or ``(R, 3)``."""
        colour = self.colour + background * (1 - self.opacity[..., None])
        return Rendering(colour, self.opacity, self.depth)


def render_weights(density: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """Weights and transmittances of samples, differentiable in the density.

    Args:
        density: ``(S,)`` or ``(S, 1)``, per world unit, at least zero; half precision is computed in float32.

    Returns:
        ``w_i`` and ``T_i``, ``(S,)`` each.
    """
    density = _flat(density, samples)
    return _Weights.apply(density, (samples.t_ends - samples.t_starts).to(density.dtype), samples)


def accumulate_along_rays(weights: Tensor, values: Tensor | None, samples: Samples) -> Tensor:
    """Sum of ``weights (S,) * values (S, C)`` over the samples of each ray ``(R, C)``; of the weights ``(R,)`` without values."""
    return _SumOverRays.apply(weights if values is None else weights[:, None] * values, samples)


def composite(rgb: Tensor, density: Tensor, samples: Samples, *, background: Tensor | None = None) -> Rendering:
    """Colours, opacities and depths of rays, differentiable in colour, density and background.

    Args:
        rgb: ``(S, 3)`` colours of the samples.
        density: ``(S,)`` or ``(S, 1)``, per world unit.
        samples: the samples' places on their rays.
        background: ``(3,)`` or ``(R, 3)`` behind everything; None: black, that is colours premultiplied by opacity.
    """
    density = _flat(density, samples)
    if tuple(rgb.shape) != (len(samples), 3):
        raise ValueError(f"rgb has shape {list(rgb.shape)}; expected [{len(samples)}, 3], a colour for each sample")
    rgb = rgb.to(density.dtype)
    if rgb.is_cuda and rgb.dtype == torch.float32 and has_triton():
        from .compositing_kernel import composite_kernel

        rendering = Rendering(*composite_kernel(rgb, density, samples.t_starts, samples.t_ends, samples.offsets))
    else:
        rendering = composite_reference(rgb, density, samples)
    return rendering if background is None else rendering.over(background.to(rgb.dtype))


def composite_reference(rgb: Tensor, density: Tensor, samples: Samples) -> Rendering:
    """`composite` without background in plain torch, on any device."""
    weights, _ = render_weights(density, samples)
    colour = accumulate_along_rays(weights, rgb, samples)
    opacity = accumulate_along_rays(weights, None, samples)
    depth = accumulate_along_rays(weights * samples.middles.to(weights.dtype), None, samples)
    return Rendering(colour, opacity, depth)


@torch.no_grad()
def visible_samples(density: Tensor, samples: Samples, *, threshold: float = TRANSMITTANCE_THRESHOLD) -> Tensor:
    """Bool ``(S,)``: whether the transmittance of a sample is at least `threshold`."""
    return render_weights(density, samples)[1] >= threshold


def sum_before(values: Tensor, samples: Samples) -> Tensor:
    """For each sample the sum of ``values (S,)`` over the samples before it on its ray, float64 ``(S,)``. NaN, infinity: 0."""
    if not len(samples):
        return values.double()
    values = values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    running = values.cumsum(0, dtype=torch.float64).sub_(values)
    starts = samples.offsets[:-1].clamp(max=len(samples) - 1)
    return running.sub_(running.index_select(0, starts).index_select(0, samples.ray_index))


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, lengths: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        # The largest optical depth that still leaves a number: behind it the transmittance is zero anyway.
        opaque = -math.log(torch.finfo(density.dtype).smallest_normal) + 17
        depth = (density * lengths).clamp_(max=opaque)
        transmittance = sum_before(depth, samples).neg_().exp_().to(density.dtype)
        weights = torch.expm1(-depth).neg_().mul_(transmittance)
        ctx.save_for_backward(depth, lengths, transmittance, weights)
        ctx.samples = samples
        return weights, transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # dw_i/dx_i = T_i exp(-x_i); dw_j/dx_i = -w_j and dT_j/dx_i = -T_j for the j behind i.
        depth, lengths, transmittance, weights = ctx.saved_tensors
        own = torch.exp(-depth).mul_(transmittance).mul_(gradients[0])
        behind = weights * gradients[0] + transmittance * gradients[1]
        total = accumulate_along_rays(behind.double().nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), None, ctx.samples)
        later = total.index_select(0, ctx.samples.ray_index).sub_(sum_before(behind, ctx.samples)).sub_(behind)
        return own.sub_(later).mul_(lengths), None, None


class _SumOverRays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, samples: Samples) -> Tensor:
        ctx.samples = samples
        return torch.segment_reduce(values, "sum", lengths=samples.counts, axis=0, unsafe=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.samples.ray_index), None


def _flat(density: Tensor, samples: Samples) -> Tensor:
    if tuple(density.shape) not in ((len(samples),), (len(samples), 1)):
        raise ValueError(f"density has shape {list(density.shape)}; expected [{len(samples)}], one for each sample")
    if not density.is_floating_point():
        raise ValueError(f"density has dtype {density.dtype}; expected floating-point values per world unit")
    return density.reshape(-1).to(torch.promote_types(density.dtype, torch.float32))
