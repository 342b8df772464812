"""What the fields of several families are made of: coordinates in a box, frequency features, the network, the density.

Source: docs/released_format.md#radiance-field (#frequency-encoding, #network). Everything here takes B NeRFs of one architecture
at once (stacked tensors, batched products) and is differentiable in the coordinates and in the tensors.

Shapes: B NeRFs, S points, K frequencies.

Coordinates of any dtype but float64 are computed in float32, as the released NeRFs were; float64 coordinates in float64. In
float32 the argument of the high-frequency sines is rounded as in the CUDA kernel, so features from about k = 20 on are
rounding noise there too (docs/released_format.md#frequency-encoding): a NeRF was trained on that noise, and the float64
evaluation differs from it. The unit coordinate that the sines take is the float32 one even then: at 2^47 anything finer is
another number altogether.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

BOX_MIN, BOX_MAX = -0.7, 0.7
"""The world box of every NeRF of the paper, on each axis; outside it the density is zero."""

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""The lowest and the highest corner of an axis-aligned box, in world units."""

WORLD_BOX: Box = ((BOX_MIN,) * 3, (BOX_MAX,) * 3)

Activation = Literal["relu", "sine"]


def unit_coordinates(xyz: Tensor, box: Box = WORLD_BOX) -> tuple[Tensor, Tensor]:
    """World coordinates ``(..., 3)`` to the unit cube, and whether a point lies strictly inside it ``(..., 1)`` (bool)."""
    axes = 1 if all(len(set(corner)) == 1 for corner in box) else 3  # one number for all axes is broadcast sooner
    corners = [corner[:axes] for corner in box]
    low, high = torch.tensor(corners, dtype=torch.float32, device=xyz.device).to(xyz.dtype)
    u = (xyz - low) / (high - low)
    return u, ((u > 0) & (u < 1)).all(dim=-1, keepdim=True)


def spread_directions(count: int) -> Tensor:
    """`count` unit vectors ``(count, 3)`` float32, evenly over the sphere: a golden spiral about z."""
    index = torch.arange(count, dtype=torch.float64)
    height, angle = 1 - (2 * index + 1) / count, index * math.pi * (math.sqrt(5) - 1)
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=-1).float()


def mean_over_directions(colour: Callable[[Tensor], Tensor], directions: Tensor) -> Tensor:
    """The mean of colours over directions: what a point looks like where nobody says from where it is looked at.

    Args:
        colour: one direction ``(3,)`` to colours of any shape.
        directions: unit vectors ``(D, 3)``.
    """
    total = colour(directions[0])
    for direction in directions[1:]:
        total = total + colour(direction)
    return total / len(directions)


def float32_unit_coordinates(xyz: Tensor, u: Tensor, box: Box = WORLD_BOX) -> Tensor:
    """``u`` with the values that float32 arithmetic gives, in the dtype and with the gradient of ``u``."""
    if u.dtype == torch.float32:
        return u
    return u + (unit_coordinates(xyz.detach().float(), box)[0].to(u.dtype) - u.detach())


def frequency_features(u: Tensor, frequencies: int) -> Tensor:
    """``(..., D)`` in the unit cube to ``(..., D * 2 * K)``: sine and cosine of pi 2^k u, coordinate outermost
    (#frequency-encoding)."""
    octaves = torch.exp2(torch.arange(frequencies, device=u.device, dtype=u.dtype))
    phase = torch.tensor([0.0, math.pi / 2], device=u.device, dtype=u.dtype)
    argument = (u[..., None] * octaves * math.pi)[..., None] + phase
    return torch.sin(argument).flatten(-3)


def network_output(
    features: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor | None], activation: Activation
) -> Tensor:
    """A network with B sets of weights (#network).

    Args:
        features: ``(B, S, in)`` of the first matrix.
        matrices: each ``(B, out, in)``, input layer first.
        biases: each ``(B, out)``, or None where a layer has none.
        activation: the function between the layers.

    Returns:
        ``(B, S, out)`` of the last matrix, raw.
    """
    hidden = features
    for number, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        if number:
            hidden = torch.relu(hidden) if activation == "relu" else torch.sin(hidden)
        weight = matrix.transpose(-1, -2)
        hidden = torch.bmm(hidden, weight) if bias is None else torch.baddbmm(bias[..., None, :], hidden, weight)
    return hidden


class TruncatedExp(torch.autograd.Function):
    """``exp(x)`` whose gradient is ``exp(min(x, 15))`` (#radiance-field)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * torch.exp(x.clamp(max=15))


def density_activation(logits: Tensor) -> Tensor:
    """Density from its logit: ``exp(x - 1)``, in float32 at least, gradient cut at 15."""
    return TruncatedExp.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)) - 1)
