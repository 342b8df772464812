"""The MLP family: frequency encoding, then a ReLU network (nf2vec's NeRFs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..architectures import register_family
from ..blocks import GraphBuilder, GraphLayout, NodeType
from ..fields import Activation, float32_unit_coordinates, frequency_features, unit_coordinates
from ..network import NetworkArchitecture


@dataclass(frozen=True, kw_only=True)
class MlpArchitecture(NetworkArchitecture):
    """Sizes of an MLP NeRF; it has no tensor but the network's."""

    family: ClassVar[str] = "mlp"
    display_name: ClassVar[str] = "MLP"
    activation: ClassVar[Activation] = "relu"
    fit_rates: ClassVar[Mapping[str, float]] = {"learning_rate": 5e-3}

    frequencies: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("frequencies")
        self._require_bounded()

    @property
    def encoding_dim(self) -> int:
        return 6 * self.frequencies

    @property
    def octaves(self) -> int:
        return self.frequencies

    def point_features(self, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
        u, _ = unit_coordinates(xyz, self.box)
        return frequency_features(float32_unit_coordinates(xyz, u, self.box), self.frequencies)

    def training_features(self, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
        return frequency_features(u, octaves)

    def add_blocks(self, builder: GraphBuilder, layout: GraphLayout) -> None:
        """The network on the coordinates' features (docs/released_format.md#mlp-graph)."""
        inputs = builder.nodes(self.input_dim, 0, NodeType.NEURON, first_index=0)
        self.add_network(builder, (inputs,), first_layer=0)


register_family(
    MlpArchitecture,
    "MLP",
    paper={
        "MLP": MlpArchitecture(),
        "MLP-2L": MlpArchitecture(hidden_layers=2),
        "MLP-32H": MlpArchitecture(hidden_dim=32),
    },
    nano=MlpArchitecture(hidden_layers=2, hidden_dim=24, frequencies=8),
)
