"""Radiance fields in plain PyTorch: what tiny-cuda-nn computes from a NeRF's tensors, on any device.

Source: FORMATS.md section 2 (2.1 frequency encoding, 2.2 network, 2.3 tri-plane, 2.4 hash grid, 2.5 padding).
Everything here takes B NeRFs of one architecture at once (stacked tensors, batched products) and is differentiable in the
coordinates and in the tensors. Shapes: B NeRFs, S points, K frequencies, R plane resolution, C channels, W network width.

Coordinates of any dtype but float64 are computed in float32, as the released NeRFs were; float64 coordinates in float64. In
float32 the argument of the high-frequency sines is rounded as in the CUDA kernel, so features from about k = 20 on are
rounding noise there too (FORMATS.md 2.1): a NeRF was trained on that noise, and the float64 evaluation differs from it.
The unit coordinate that the sines take is the float32 one even then: at 2^47 anything finer is another number altogether.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .architectures import (
    BIAS_KEY,
    HASH_KEY,
    MLP_KEY,
    TRIPLANE_KEY,
    HashArchitecture,
    MlpArchitecture,
    NerfArchitecture,
    TriplaneArchitecture,
)

BOX_MIN, BOX_MAX = -0.7, 0.7
"""The world box of every NeRF here, on each axis; outside it the density is zero."""

_HASH_PRIMES = (1, 2654435761, 805459861)
_UINT32 = 0xFFFFFFFF


def unit_coordinates(xyz: Tensor) -> tuple[Tensor, Tensor]:
    """World coordinates ``(..., 3)`` to the unit cube, and whether a point lies strictly inside it ``(..., 1)`` (bool)."""
    box = torch.tensor([BOX_MIN, BOX_MAX], dtype=torch.float32, device=xyz.device).to(xyz.dtype)
    u = (xyz - box[0]) / (box[1] - box[0])
    return u, ((u > 0) & (u < 1)).all(dim=-1, keepdim=True)


def float32_unit_coordinates(xyz: Tensor, u: Tensor) -> Tensor:
    """``u`` with the values that float32 arithmetic gives, in the dtype and with the gradient of ``u``."""
    if u.dtype == torch.float32:
        return u
    return u + (unit_coordinates(xyz.detach().float())[0].to(u.dtype) - u.detach())


def frequency_features(u: Tensor, frequencies: int) -> Tensor:
    """``(..., D)`` in the unit cube to ``(..., D * 2 * K)``: sine and cosine of pi 2^k u, coordinate outermost (2.1)."""
    octaves = torch.exp2(torch.arange(frequencies, device=u.device, dtype=u.dtype))
    phase = torch.tensor([0.0, math.pi / 2], device=u.device, dtype=u.dtype)
    argument = (u[..., None] * octaves * math.pi)[..., None] + phase
    return torch.sin(argument).flatten(-3)


def triplane_features(planes: Tensor, u: Tensor) -> Tensor:
    """Sum of the three planes' bilinear samples (2.3).

    Args:
        planes: ``(B, 3, R, R, C)``.
        u: ``(B, S, 3)`` in the unit cube; points outside read zero.

    Returns:
        ``(B, S, C)``.
    """
    s = 2 * u - 1
    # The first coordinate of each pair runs along the columns.
    pairs = torch.stack([s[..., [0, 1]], s[..., [0, 2]], s[..., [1, 2]]], dim=1)
    images = planes.flatten(0, 1).permute(0, 3, 1, 2)
    sampled = F.grid_sample(
        images, pairs.flatten(0, 1)[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return sampled[..., 0].unflatten(0, pairs.shape[:2]).sum(dim=1).transpose(1, 2)


def hash_corner_indices(cell: Tensor, resolution: int, entries: int) -> Tensor:
    """Table index of grid corners (2.4): dense while the grid fits, the spatial hash otherwise.

    Args:
        cell: integer corner coordinates ``(..., 3)``, int64, taken modulo 2^32.
        resolution: vertices per axis.
        entries: entries of the level.

    Returns:
        int64 ``(...)`` in ``0..entries - 1``.
    """
    cell = cell & _UINT32
    stride, index = 1, torch.zeros_like(cell[..., 0])
    for axis in range(3):
        if stride > entries:
            break
        index = (index + cell[..., axis] * stride) & _UINT32
        stride *= resolution
    if stride > entries:
        index = torch.zeros_like(index)
        for axis, prime in enumerate(_HASH_PRIMES):
            index = index ^ ((cell[..., axis] * prime) & _UINT32)
    return index % entries


def hash_features(architecture: HashArchitecture, table: Tensor, u: Tensor) -> Tensor:
    """Trilinear reads of every level of the hash grid (2.4).

    Args:
        architecture: sizes of the grid.
        table: ``(B, sum of entries * F)`` flat tables.
        u: ``(B, S, 3)`` in the unit cube.

    Returns:
        ``(B, S, levels * F)``, level by level.
    """
    features = architecture.features_per_entry
    sizes = architecture.level_entries
    tables = table.unflatten(-1, (-1, features)).split(sizes, dim=1)
    corners = torch.tensor([[c >> d & 1 for d in range(3)] for c in range(8)], device=u.device)
    outputs = []
    for level, scale, resolution in zip(tables, architecture.level_scales, architecture.level_resolutions, strict=True):
        position = u * scale + 0.5
        floor = position.detach().floor()
        fraction = (position - floor)[..., None, :]
        cells = floor.to(torch.int64)[..., None, :] + corners
        weights = torch.where(corners.bool(), fraction, 1 - fraction).prod(dim=-1)
        index = hash_corner_indices(cells, resolution, level.shape[1])
        values = level.gather(1, index.flatten(1)[..., None].expand(-1, -1, features)).unflatten(1, index.shape[1:])
        outputs.append((weights[..., None] * values).sum(dim=2))
    return torch.cat(outputs, dim=-1)


class TruncatedExp(torch.autograd.Function):
    """``exp(x)`` whose gradient is ``exp(min(x, 15))`` (section 2, the density activation)."""

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


def split_layers(architecture: NerfArchitecture, params: Tensor) -> list[Tensor]:
    """The weight matrices ``(..., out, in)`` of flat ``mlp_base.params`` ``(..., P)``, as views."""
    shapes = architecture.layer_shapes
    flat = params.split([out * width for out, width in shapes], dim=-1)
    return [matrix.unflatten(-1, shape) for matrix, shape in zip(flat, shapes, strict=True)]


def split_biases(architecture: NerfArchitecture, biases: Tensor) -> list[Tensor]:
    """The bias vectors ``(..., out)`` of flat ``mlp_base.biases``, as views."""
    return list(biases.split([out for out, _ in architecture.layer_shapes], dim=-1))


@functools.singledispatch
def point_features(architecture: NerfArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
    """A family's encoding of points, chosen by the class of the architecture; a family adds its own with `register`.

    Args:
        architecture: sizes.
        tensors: stacked tensors, each ``(B, *architecture.tensor_shapes[key])``.
        xyz: world coordinates ``(B, S, 3)``.

    Returns:
        ``(B, S, encoding_dim)``. Frequency features, of an architecture with `frequencies`, stand first.

    Raises:
        TypeError: a class that none was registered for.
    """
    raise TypeError(f"no field is known for {type(architecture).__name__}; add it with fields.point_features.register")


@point_features.register(MlpArchitecture)
def _(architecture: MlpArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
    u, _ = unit_coordinates(xyz)
    return frequency_features(float32_unit_coordinates(xyz, u), architecture.frequencies)


@point_features.register(TriplaneArchitecture)
def _(architecture: TriplaneArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
    u, _ = unit_coordinates(xyz)
    waves = frequency_features(float32_unit_coordinates(xyz, u), architecture.frequencies)
    return torch.cat([waves, triplane_features(tensors[TRIPLANE_KEY], u)], dim=-1)


@point_features.register(HashArchitecture)
def _(architecture: HashArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
    u, _ = unit_coordinates(xyz)
    return hash_features(architecture, tensors[HASH_KEY], u)


def input_features(architecture: NerfArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
    """What the network reads ``(B, S, input_dim)``: the family's encoding of points ``(B, S, 3)``, ones as padding (2.5)."""
    features = point_features(architecture, tensors, xyz)
    return F.pad(features, (0, architecture.input_dim - features.shape[-1]), value=1.0)


def network_output(architecture: NerfArchitecture, tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """The network (2.2): ``(B, S, input_dim)`` to its raw ``(B, S, 16)`` outputs."""
    matrices = split_layers(architecture, tensors[MLP_KEY])
    biases = split_biases(architecture, tensors[BIAS_KEY]) if architecture.bias else [None] * len(matrices)
    hidden = features
    for number, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        if number:
            hidden = torch.relu(hidden) if architecture.activation == "relu" else torch.sin(hidden)
        weight = matrix.transpose(-1, -2)
        hidden = torch.bmm(hidden, weight) if bias is None else torch.baddbmm(bias[..., None, :], hidden, weight)
    return hidden


def query_field(architecture: NerfArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor) -> tuple[Tensor, Tensor]:
    """Colour and density of B NeRFs of one architecture.

    Args:
        architecture: sizes that all of them share.
        tensors: stacked tensors, each ``(B, *architecture.tensor_shapes[key])``.
        xyz: world coordinates ``(B, S, 3)``.

    Returns:
        rgb ``(B, S, 3)`` in 0..1 and density ``(B, S, 1)`` per world unit, zero outside the box; float64 for float64
        coordinates, float32 otherwise.
    """
    dtype = torch.float64 if xyz.dtype == torch.float64 else torch.float32
    tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    xyz = xyz.to(dtype)
    _, inside = unit_coordinates(xyz)
    raw = network_output(architecture, tensors, input_features(architecture, tensors, xyz))
    return torch.sigmoid(raw[..., :3]), density_activation(raw[..., 3:4]) * inside
