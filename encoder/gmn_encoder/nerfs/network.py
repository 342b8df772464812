"""The small network behind an encoding of points, which all families of the paper have: its flat tensors, field and graph.

Sources: the paper, Table 14; docs/released_format.md#nerf-weights (flat tensors, padding), #network, #padding and #linear-layers.
A NeRF stores

* ``mlp_base.params`` ``(P,)``: the weight matrices one after the other, input layer first, each row-major ``(out, in)``;
* ``mlp_base.biases`` ``(hidden_layers * W + 16,)``: only networks with biases, which the released data has none of.

"Hidden layers" counts hidden activations, as the paper does; there is one matrix more. Input widths are padded to a
multiple of 16 and the output always has 16 rows: rgb logits, density logit, twelve unused.

Shapes: B NeRFs, S points, W network width.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import brief
from .architectures import NerfArchitecture
from .blocks import Block, EdgeType, GraphBuilder, NodeGroup, NodeType, WeightSlice, edge_attributes
from .fields import Activation, density_activation, network_output, unit_coordinates

MLP_KEY = "mlp_base.params"
BIAS_KEY = "mlp_base.biases"

OUTPUT_ROWS = 16
"""Rows of the last matrix: 3 rgb logits, 1 density logit and 12 unused (tiny-cuda-nn pads outputs to 16)."""

# Where sizes are searched for; beyond these, `architecture=` must say them.
_WIDTHS = (16, 32, 64, 128, 256)
_MAX_HIDDEN_LAYERS = 8


def pad16(width: int) -> int:
    """The next multiple of 16, to which tiny-cuda-nn pads the input of a network."""
    return -(-width // 16) * 16


@dataclass(frozen=True, kw_only=True)
class NetworkArchitecture(NerfArchitecture):
    """A family whose field is an encoding of points, then a network: it adds `encoding_dim`, `point_features` and its tensors."""

    activation: ClassVar[Activation]
    shared_keys: ClassVar[tuple[str, ...]] = (MLP_KEY, BIAS_KEY)

    hidden_layers: int = 3
    hidden_dim: int = 64
    bias: bool = False

    def __post_init__(self) -> None:
        self._require_positive("hidden_layers", "hidden_dim")
        if not isinstance(self.bias, bool):
            raise ValueError(f"bias of a {self.family} architecture must be true or false, got {brief(self.bias)}")

    # Sizes

    @property
    @abstractmethod
    def encoding_dim(self) -> int:
        """Width of what the coordinates are turned into before the first matrix, unpadded."""

    @property
    def octaves(self) -> int:
        """Octaves of the frequency features, six columns each, that stand first in the encoding; 0 where there are none."""
        return 0

    @property
    def input_dim(self) -> int:
        """Columns of the first matrix: `encoding_dim` padded to a multiple of 16 with constant ones."""
        return pad16(self.encoding_dim)

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """``(out, in)`` of every matrix, input layer first."""
        hidden = [(self.hidden_dim, self.hidden_dim)] * (self.hidden_layers - 1)
        return ((self.hidden_dim, self.input_dim), *hidden, (OUTPUT_ROWS, self.hidden_dim))

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {MLP_KEY: (sum(out * width for out, width in self.layer_shapes),)}
        if self.bias:
            shapes[BIAS_KEY] = (sum(out for out, _ in self.layer_shapes),)
        return shapes

    @classmethod
    def candidates(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[NerfArchitecture]:
        bias = BIAS_KEY in shapes
        found = (
            cls(**sizes, hidden_layers=layers, hidden_dim=width, bias=bias)
            for sizes in cls.encoding_sizes(shapes)
            for width in _WIDTHS
            for layers in range(1, _MAX_HIDDEN_LAYERS + 1)
        )
        return [architecture for architecture in found if architecture.tensor_shapes == shapes]

    def layers(self, tensors: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor | None]]:
        """The weight matrices ``(..., out, in)`` and biases ``(..., out)``, or None, of flat tensors ``(..., P)``, as views."""
        flat = tensors[MLP_KEY].split([out * width for out, width in self.layer_shapes], dim=-1)
        matrices = [matrix.unflatten(-1, shape) for matrix, shape in zip(flat, self.layer_shapes, strict=True)]
        if not self.bias:
            return matrices, [None] * len(matrices)
        return matrices, [*tensors[BIAS_KEY].split([out for out, _ in self.layer_shapes], dim=-1)]

    # Field

    @abstractmethod
    def point_features(self, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
        """The family's encoding of points, differentiable in the coordinates and in the tensors.

        Args:
            tensors: stacked tensors, each ``(B, *tensor_shapes[key])``.
            xyz: world coordinates ``(B, S, 3)``.

        Returns:
            ``(B, S, encoding_dim)``. Frequency features, if any (see `octaves`), stand first.
        """

    def input_features(self, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
        """What the network reads ``(B, S, input_dim)``: the encoding of points ``(B, S, 3)``, ones as padding (#padding)."""
        features = self.point_features(tensors, xyz)
        return F.pad(features, (0, self.input_dim - features.shape[-1]), value=1.0)

    def query(
        self, tensors: Mapping[str, Tensor], xyz: Tensor, directions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `NerfArchitecture.query`; the colour is the same from everywhere."""
        dtype = torch.float64 if xyz.dtype == torch.float64 else torch.float32
        tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        xyz = xyz.to(dtype)
        _, inside = unit_coordinates(xyz, self.box)
        return self._colour_and_density(self.input_features(tensors, xyz), *self.layers(tensors), inside)

    def _colour_and_density(
        self, features: Tensor, matrices: list[Tensor], biases: list[Tensor | None], inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        raw = network_output(features, matrices, biases, self.activation)
        return torch.sigmoid(raw[..., :3]), density_activation(raw[..., 3:4]) * inside

    # Training

    def training_features(self, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
        """`point_features` by a faster way, if the family has one: float32, differentiable in the tensors only.

        Args:
            tensors: stacked tensors.
            u: ``(B, S, 3)`` in the closed unit cube.
            octaves: octaves of the frequency features to compute, the first so many; the others' columns are left out.
        """
        low, high = torch.tensor(self.box, dtype=u.dtype, device=u.device)
        return self._used_columns(self.point_features(tensors, low + (high - low) * u), octaves)

    def training_query(
        self,
        tensors: Mapping[str, Tensor],
        xyz: Tensor,
        directions: Tensor | None = None,
        *,
        frequencies: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        u, inside = unit_coordinates(xyz.detach(), self.box)
        octaves = self._trained_octaves(frequencies)
        (first, *others), (bias, *biases) = self.layers(tensors)
        ones = first[..., self.encoding_dim :].sum(dim=-1)  # the padding columns read ones
        features = self.training_features(tensors, u.clamp(0, 1), octaves)
        matrices = [self._used_columns(first[..., : self.encoding_dim], octaves), *others]
        return self._colour_and_density(features, matrices, [ones if bias is None else ones + bias, *biases], inside)

    def _trained_octaves(self, frequencies: int | None) -> int:
        return self.octaves if frequencies is None else min(frequencies, self.octaves)

    def _used_columns(self, columns: Tensor, octaves: int) -> Tensor:
        """Of ``(..., encoding_dim)`` columns those that are computed: of the frequency features, some octaves."""
        if octaves == self.octaves:
            return columns
        waves = columns[..., : 6 * self.octaves].unflatten(-1, (3, 2 * self.octaves))[..., : 2 * octaves].flatten(-2)
        return torch.cat([waves, columns[..., 6 * self.octaves :]], dim=-1)

    def used_frequencies(self, tensors: Mapping[str, Tensor]) -> int | None:
        if not self.octaves:
            return None
        first = self.layers(tensors)[0][0]
        waves = first[:, : 6 * self.octaves].unflatten(1, (3, self.octaves, 2))
        used = (waves != 0).any(dim=3).any(dim=1).any(dim=0).nonzero()
        return max(int(used.max()) + 1 if len(used) else 1, 1)

    def initial_tensor(self, key: str, generator: torch.Generator, frequencies: int | None) -> Tensor:
        """As tiny-cuda-nn draws them.

        ReLU networks: Xavier-uniform matrices. Sine networks: uniform with bounds ``30 / fan_in`` in the first matrix, which
        reads what is left of `frequencies` octaves, and ``sqrt(6 / fan_in)`` in the others, the last one Xavier. Biases zero.
        """
        if key == BIAS_KEY:
            return torch.zeros(self.tensor_shapes[key])
        if key != MLP_KEY:
            return super().initial_tensor(key, generator, frequencies)
        total, used = self.octaves, self._trained_octaves(frequencies)
        matrices = []
        for number, (out, width) in enumerate(self.layer_shapes):
            fan_in = width - 6 * (total - used) if number == 0 else width
            bound = math.sqrt(6 / (fan_in + out))
            if self.activation == "sine" and number < self.hidden_layers:
                bound = 30 / fan_in if number == 0 else math.sqrt(6 / fan_in)
            matrix = (torch.rand(out, width, generator=generator) * 2 - 1) * bound
            if number == 0 and total:
                matrix[:, : 6 * total].unflatten(1, (3, 2 * total))[..., 2 * used :] = 0
            matrices.append(matrix.flatten())
        return torch.cat(matrices)

    # Graph

    def add_network(self, builder: GraphBuilder, sources: tuple[NodeGroup, ...], first_layer: int) -> None:
        """The linear layers (#linear-layers). The first reads `sources`; matrix columns beyond them (ones, as padding) are left
        out."""
        offset = bias_offset = 0
        last = len(self.layer_shapes) - 1
        for number, (out, width) in enumerate(self.layer_shapes):
            layer = first_layer + number
            targets = builder.nodes(out, layer + 1, NodeType.NEURON, first_index=0 if number == last else None)
            attributes, index, bias = edge_attributes(layer, EdgeType.WEIGHT), None, None
            if self.bias:
                sources = (*sources, builder.nodes(1, layer + 1, NodeType.BIAS))
                attributes = torch.cat([attributes, edge_attributes(layer, EdgeType.BIAS)])
                index = torch.zeros(sum(group.count for group in sources), dtype=torch.int64)
                index[-1] = 1
                index = index.expand(out, -1)
                bias = WeightSlice(BIAS_KEY, bias_offset, 1, 1)
            weights = WeightSlice(MLP_KEY, offset, width, 1)
            builder.blocks.append(Block(sources, targets, weights, attributes, index, bias=bias))
            sources = (targets,)
            offset += out * width
            bias_offset += out
