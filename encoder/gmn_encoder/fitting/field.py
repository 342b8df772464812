"""NeRFs while they are trained: the field of `fields.py` by a faster way, and the weights that training starts from.

Two things make it fast. Interpolation (hash tables, planes) is one gather of pairs of floats, read as complex numbers, and one
scatter. And of the frequency encoding only the octaves that images can show are computed: the columns of the others are zero and
stay so (see `FitSettings.frequencies`), which gives what `fields.query_field` gives for those weights.

Shapes: B NeRFs, S points, N table rows, C channels, K corners.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nerfs.architectures import (
    BIAS_KEY,
    HASH_KEY,
    MLP_KEY,
    TRIPLANE_KEY,
    HashArchitecture,
    MlpArchitecture,
    NerfArchitecture,
    TriplaneArchitecture,
)
from ..nerfs.fields import (
    BOX_MAX,
    BOX_MIN,
    density_activation,
    frequency_features,
    hash_corner_indices,
    point_features,
    split_biases,
    split_layers,
    unit_coordinates,
)
from ..nerfs.record import Nerf, NerfBatch


@dataclass(frozen=True, eq=False)
class TrainedBatch(NerfBatch):
    """A `NerfBatch` whose queries are made for training: float32, differentiable in the weights, not in the coordinates.

    Attributes:
        frequencies: octaves of the frequency encoding that are computed; None: all. The columns of the rest must be zero.
    """

    frequencies: int | None = None

    def query(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        u, inside = unit_coordinates(xyz.detach())
        raw = self._network(training_features(self.architecture, self.tensors, u.clamp(0, 1), self._octaves()))
        return torch.sigmoid(raw[..., :3]), density_activation(raw[..., 3:4]) * inside

    def _octaves(self) -> int:
        total = getattr(self.architecture, "frequencies", 0)
        return total if self.frequencies is None else min(self.frequencies, total)

    def _first_matrix(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """The used columns of the first matrix, and the sum of those that read ones: ``(B, W, I)`` and ``(B, W)``."""
        width = self.architecture.encoding_dim
        return _used_columns(self.architecture, matrix[..., :width], self._octaves()), matrix[..., width:].sum(dim=-1)

    def _network(self, features: Tensor) -> Tensor:
        architecture = self.architecture
        first, *others = split_layers(architecture, self.tensors[MLP_KEY])
        first, shift = self._first_matrix(first)
        if architecture.bias:
            shifts = split_biases(architecture, self.tensors[BIAS_KEY])
            shift = shift + shifts[0]
        hidden = torch.baddbmm(shift[:, None, :], features, first.transpose(1, 2))
        for number, matrix in enumerate(others):
            hidden = torch.relu(hidden) if architecture.activation == "relu" else torch.sin(hidden)
            if architecture.bias:
                hidden = torch.baddbmm(shifts[number + 1][:, None, :], hidden, matrix.transpose(1, 2))
            else:
                hidden = torch.bmm(hidden, matrix.transpose(1, 2))
        return hidden


def _used_columns(architecture: NerfArchitecture, columns: Tensor, octaves: int) -> Tensor:
    """Of ``(..., encoding_dim)`` columns those that are computed: of the frequency features, which stand first, some octaves."""
    total = getattr(architecture, "frequencies", 0)
    if octaves == total:
        return columns
    waves = columns[..., : 6 * total].unflatten(-1, (3, 2 * total))[..., : 2 * octaves].flatten(-2)
    return torch.cat([waves, columns[..., 6 * total :]], dim=-1)


@functools.singledispatch
def training_features(architecture: NerfArchitecture, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
    """What the used columns of the first matrix read, without the padding ones: `fields.point_features`, by a faster way.

    By the class of the architecture. A family that registers none is trained with its `point_features`.

    Args:
        architecture: sizes.
        tensors: stacked tensors.
        u: ``(B, S, 3)`` in the closed unit cube.
        octaves: of the frequency encoding, that are computed.
    """
    xyz = BOX_MIN + (BOX_MAX - BOX_MIN) * u
    return _used_columns(architecture, point_features(architecture, tensors, xyz), octaves)


@training_features.register(MlpArchitecture)
def _(architecture: MlpArchitecture, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
    return frequency_features(u, octaves)


@training_features.register(TriplaneArchitecture)
def _(architecture: TriplaneArchitecture, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
    return torch.cat([frequency_features(u, octaves), _triplane_features(tensors[TRIPLANE_KEY], u)], dim=-1)


@training_features.register(HashArchitecture)
def _(architecture: HashArchitecture, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
    return _hash_features(architecture, tensors[HASH_KEY], u)


def interpolate(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """``(M, C)`` sums of K rows of ``table (N, C)`` at ``index (K, M)``, times ``weights (K, M)``. Differentiable in the table.

    The gradient is summed in a fixed order on every device.
    """
    return _Interpolate.apply(table, index, weights)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(index, weights)
        ctx.shape = table.shape
        if table.shape[1] > 2:  # for short rows the other way is faster
            bags = index.T.contiguous(), weights.T.contiguous()
            return F.embedding_bag(bags[0], table, per_sample_weights=bags[1], mode="sum")
        rows = _floats(_cells(table).index_select(0, _cell_index(index, table.shape[1])))
        rows = rows.view(len(index), -1).mul_(_spread(weights, table.shape[1]))
        return rows.sum(dim=0).view(-1, table.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, weights = ctx.saved_tensors
        channels = ctx.shape[1]
        values = _cells(_spread(weights, channels).mul_(gradients[0].reshape(1, -1)).view(-1, channels))
        cells = _cell_index(index, channels)
        total = values.new_zeros(math.prod(ctx.shape) // (2 if values.is_complex() else 1))
        if not values.is_cuda:
            return _floats(total.index_add_(0, cells, values)).view(ctx.shape), None, None
        # index_add_ adds in any order there, index_put_ sorts first.
        flat = _floats(total).view(len(total), -1)
        flat.index_put_((cells.long(),), _floats(values).view(len(values), -1), accumulate=True)
        return flat.view(ctx.shape), None, None


def _cells(rows: Tensor) -> Tensor:
    """The ``(N, C)`` floats as pairs, flat complex; as they are, flat, where C is odd."""
    if rows.shape[1] % 2:
        return rows.reshape(-1)
    return torch.view_as_complex(rows.reshape(-1, 2).contiguous())


def _floats(cells: Tensor) -> Tensor:
    return torch.view_as_real(cells) if cells.is_complex() else cells


def _spread(weights: Tensor, channels: int) -> Tensor:
    """``(K, M)`` to ``(K, M * C)``, each repeated, in new memory."""
    return weights.new_empty(*weights.shape, channels).copy_(weights[..., None]).flatten(1)


def _cell_index(index: Tensor, channels: int) -> Tensor:
    width = channels if channels % 2 else channels // 2
    if width == 1:
        return index.flatten()
    return (index[..., None] * width + torch.arange(width, device=index.device, dtype=index.dtype)).flatten()


def _triplane_features(planes: Tensor, u: Tensor) -> Tensor:
    """`fields.triplane_features` for points in the closed unit cube."""
    nerfs, _, resolution, _, channels = planes.shape
    position = u * (resolution - 1)
    low = position.floor().clamp_(max=resolution - 2)
    fraction = position - low
    cell = low.to(torch.int32)
    plane = torch.arange(nerfs, device=u.device, dtype=torch.int32)[:, None] * 3
    indices, weights = [], []
    for number, (column, row) in enumerate(((0, 1), (0, 2), (1, 2))):
        for down in (0, 1):
            for right in (0, 1):
                place = ((plane + number) * resolution + cell[..., row] + down) * resolution + cell[..., column] + right
                indices.append(place)
                share = fraction[..., row] if down else 1 - fraction[..., row]
                weights.append(share * (fraction[..., column] if right else 1 - fraction[..., column]))
    index, weight = torch.stack(indices).flatten(1), torch.stack(weights).flatten(1)
    return interpolate(planes.reshape(-1, channels), index, weight).view(*u.shape[:2], channels)


def _hash_features(architecture: HashArchitecture, table: Tensor, u: Tensor) -> Tensor:
    """`fields.hash_features`, with what the corners of a cell share computed once."""
    features, sizes = architecture.features_per_entry, architecture.level_entries
    coordinates = u.permute(2, 0, 1).contiguous()  # (3, B, S)
    offset = torch.arange(len(table), device=u.device, dtype=torch.int32)[:, None] * sum(sizes)
    tables, outputs = table.reshape(-1, features), []
    for entries, scale, resolution in zip(
        sizes, architecture.level_scales, architecture.level_resolutions, strict=True
    ):
        position = coordinates * scale + 0.5
        low = position.floor()
        fraction = position - low
        x, y, z = torch.stack([1 - fraction, fraction], dim=1)  # (2, B, S) each
        weights = (z[:, None] * y)[:, :, None] * x
        index = _corners(low.to(torch.int32), resolution, entries) + offset
        outputs.append(interpolate(tables, index.flatten(1), weights.flatten(0, 2).flatten(1)))
        offset = offset + entries
    return torch.stack(outputs, dim=1).view(*u.shape[:2], -1)


def _corners(cell: Tensor, resolution: int, entries: int) -> Tensor:
    """`hash_corner_indices` of the 8 corners ``(8, B, S)`` of int32 cells ``(3, B, S)``, the x coordinate running fastest."""
    stride, factors = 1, [0, 0, 0]
    for axis in range(3):
        if stride > entries:
            break
        factors[axis] = stride
        stride *= resolution
    hashed = stride > entries
    if entries & (entries - 1) or entries > 1 << 16:  # what follows needs a power of two, and products within 32 bits
        steps = torch.tensor([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], device=cell.device)
        corners = cell.to(torch.int64).permute(1, 2, 0) + steps[:, None, None]
        return hash_corner_indices(corners, resolution, entries).to(torch.int32)
    if hashed:  # only the lowest bits of the products count
        factors = [factor % entries for factor in (1, 2654435761, 805459861)]
    x, y, z = (torch.stack([cell[axis], cell[axis] + 1]) * factors[axis] for axis in range(3))
    if hashed:
        index = (z[:, None] ^ y)[:, :, None] ^ x
    else:
        index = (z[:, None] + y)[:, :, None] + x
    return (index & (entries - 1)).flatten(0, 2)


def used_frequencies(nerf: Nerf) -> int | None:
    """How many octaves of its frequency encoding a NeRF reads, the columns of the others being zero. None: no such encoding."""
    total = getattr(nerf.architecture, "frequencies", 0)
    if not total:
        return None
    waves = split_layers(nerf.architecture, nerf.tensors[MLP_KEY])[0][:, : 6 * total].unflatten(1, (3, total, 2))
    used = (waves != 0).any(dim=3).any(dim=1).any(dim=0).nonzero()
    return max(int(used.max()) + 1 if len(used) else 1, 1)


def initial_tensors(
    architecture: NerfArchitecture, *, seed: int, frequencies: int | None = None
) -> Mapping[str, Tensor]:
    """Weights that training starts from, float32 on the CPU, as tiny-cuda-nn draws them.

    ReLU networks: Xavier-uniform matrices. Sine networks: uniform with bounds ``30 / fan_in`` in the first matrix, which reads
    what is left of `frequencies` octaves, and ``sqrt(6 / fan_in)`` in the others, the last one Xavier. Hash tables
    U(-1e-4, 1e-4), planes and what else stands beside a network N(0, 0.001), biases zero. The columns of octaves from
    `frequencies` on are zero.
    """
    generator = torch.Generator().manual_seed(seed)
    total = getattr(architecture, "frequencies", 0)
    used = total if frequencies is None else min(frequencies, total)
    tensors: dict[str, Tensor] = {}
    for key, shape in architecture.tensor_shapes.items():
        if key == HASH_KEY:
            tensors[key] = (torch.rand(shape, generator=generator) * 2 - 1) * 1e-4
        elif key == BIAS_KEY:
            tensors[key] = torch.zeros(shape)
        elif key != MLP_KEY:
            tensors[key] = torch.randn(shape, generator=generator) * 1e-3
        else:
            matrices = []
            for number, (out, width) in enumerate(architecture.layer_shapes):
                fan_in = width - 6 * (total - used) if number == 0 else width
                bound = math.sqrt(6 / (fan_in + out))
                if architecture.activation == "sine" and number < architecture.hidden_layers:
                    bound = 30 / fan_in if number == 0 else math.sqrt(6 / fan_in)
                matrix = (torch.rand(out, width, generator=generator) * 2 - 1) * bound
                if number == 0 and total:
                    matrix[:, : 6 * total].unflatten(1, (3, 2 * total))[..., 2 * used :] = 0
                matrices.append(matrix.flatten())
            tensors[key] = torch.cat(matrices)
    return tensors
