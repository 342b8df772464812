"""What foreign fields are made of: encodings of points and directions, networks, multi-resolution grids.

Sources: Mildenhall et al. (frequencies), Mueller et al. (grids), tiny-cuda-nn's conventions (docs/released_format.md#hash-grid).

Shapes: S points, L levels, F features of an entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..families.hash import HASH_PRIMES
from ..interpolation import interpolate
from ..network import pad16


def waves(values: Tensor, octaves: int, *, include_input: bool = True) -> Tensor:
    """``(S, D)`` to ``(S, D * (2 * octaves + 1))``: the values, then sine and cosine of ``2^k x``, octave by octave."""
    parts = [values] if include_input else []
    for octave in range(octaves):
        parts += [torch.sin(values * 2.0**octave), torch.cos(values * 2.0**octave)]
    return torch.cat(parts, dim=-1)


def spherical_harmonics(directions: Tensor, *, positive: bool = False) -> Tensor:
    """Real spherical harmonics of the first four degrees ``(S, 16)`` at ``(S, 3)``, which need not have length one.

    Args:
        positive: without the minus signs that tiny-cuda-nn gives the terms of odd order.
    """
    x, y, z = directions.unbind(dim=-1)
    xx, yy, zz = x * x, y * y, z * z
    terms = [
        torch.full_like(x, 0.28209479177387814),
        0.48860251190291987 * y,
        0.48860251190291987 * z,
        0.48860251190291987 * x,
        1.0925484305920792 * x * y,
        1.0925484305920792 * y * z,
        0.94617469575755997 * zz - 0.31539156525251999,
        1.0925484305920792 * x * z,
        0.54627421529603959 * (xx - yy),
        0.59004358992664352 * y * (3 * xx - yy),
        2.8906114426405538 * x * y * z,
        0.45704579946446572 * y * (5 * zz - 1),
        0.3731763325901154 * z * (5 * zz - 3),
        0.45704579946446572 * x * (5 * zz - 1),
        1.4453057213202769 * z * (xx - yy),
        0.59004358992664352 * x * (xx - 3 * yy),
    ]
    sign = 1 if positive else -1
    return torch.stack(
        [term * (sign if number in (1, 3, 5, 7, 9, 11, 13, 15) else 1) for number, term in enumerate(terms)], -1
    )


def linear_layers(flat: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The matrices ``(out, in)`` that stand one after the other in a flat tensor."""
    parts = flat.split([out * width for out, width in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def padded_network_shapes(inputs: int, hidden: int, hidden_layers: int, outputs: int) -> list[tuple[int, int]]:
    """``(out, in)`` of tiny-cuda-nn's matrices: inputs and outputs padded to multiples of 16."""
    return [(hidden, pad16(inputs)), *[(hidden, hidden)] * (hidden_layers - 1), (pad16(outputs), hidden)]


def relu_network(features: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor | None] | None = None) -> Tensor:
    """Linear layers with ReLU between them; features that are fewer than the first matrix's columns are padded with ones."""
    hidden = F.pad(features, (0, matrices[0].shape[1] - features.shape[-1]), value=1.0)
    for number, matrix in enumerate(matrices):
        bias = biases[number] if biases is not None else None
        hidden = F.linear(torch.relu(hidden) if number else hidden, matrix, bias)
    return hidden


@dataclass(frozen=True)
class GridLevel:
    """One level of a grid.

    Attributes:
        scale, shift: a point ``u`` of the unit cube is at ``u * scale + shift``.
        stride: vertices along an axis in the numbering of a level that is stored densely; None: always hashed.
        entries: rows of the table.
    """

    scale: float
    shift: float
    stride: int | None
    entries: int


def grid_features(table: Tensor, levels: Sequence[GridLevel], u: Tensor) -> Tensor:
    """Trilinear reads ``(S, L * F)`` of all levels of a table ``(rows, F)`` at points of the unit cube ``(S, 3)``."""
    outputs, first = [], 0
    coordinates = u.T.contiguous()
    for level in levels:
        position = coordinates * level.scale + level.shift
        low = position.floor()
        upper = position - low
        x, y, z = torch.stack([1 - upper, upper], dim=1)  # (2, S) each
        weights = ((z[:, None] * y)[:, :, None] * x).flatten(0, 2)
        index = _corner_rows(low.to(torch.int64), level)
        outputs.append(interpolate(table[first : first + level.entries], index, weights))
        first += level.entries
    return torch.cat(outputs, dim=-1)


def _corner_rows(low: Tensor, level: GridLevel) -> Tensor:
    """Rows ``(8, S)`` of the corners of cells ``(3, S)`` int64, the x coordinate running fastest."""
    hashed = level.stride is None or level.stride**3 > level.entries
    factors = HASH_PRIMES if level.stride is None or hashed else (1, level.stride, level.stride**2)
    x, y, z = (torch.stack([part, part + 1]) * factor for part, factor in zip(low, factors, strict=True))
    if hashed:
        index = ((z[:, None] ^ y)[:, :, None] ^ x) & 0xFFFFFFFF
    else:
        index = (z[:, None] + y)[:, :, None] + x
    return torch.remainder(index, level.entries).flatten(0, 2)


def tcnn_levels(levels: int, base: int, growth: float, log2_table: int) -> list[GridLevel]:
    """The levels of tiny-cuda-nn's hash grid; `growth` is its `per_level_scale`."""
    log2_growth = np.log2(np.float32(growth), dtype=np.float32)
    scales = np.exp2(np.arange(levels, dtype=np.float32) * log2_growth, dtype=np.float32) * np.float32(base)
    found = []
    for scale in (scales - np.float32(1)).tolist():
        resolution = math.ceil(scale) + 1
        found.append(GridLevel(scale, 0.5, resolution, min(-(-(resolution**3) // 8) * 8, 2**log2_table)))
    return found
