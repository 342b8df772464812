"""The tri-plane family: frequency encoding beside the summed features of three planes, then a sine network (Cardace et al.).

Sources: docs/released_format.md#nerf-weights, #tri-plane and #tri-plane-graph. Beside the network a NeRF stores ``triplane``
``(3, R, R, C)``: plane, row, column, channel.

Shapes: B NeRFs, S points, R plane resolution, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..architectures import register_family
from ..blocks import Block, GraphBuilder, GraphLayout, NodeType, WeightSlice, edge_attributes
from ..canonical import canonical_features
from ..fields import Activation, float32_unit_coordinates, frequency_features, unit_coordinates
from ..interpolation import interpolate
from ..network import NetworkArchitecture

KEY = "triplane"
NODE_TYPE, EDGE_TYPE = 16, 13
"""Rows of the encoder's tables of node and edge types."""


@dataclass(frozen=True, kw_only=True)
class TriplaneArchitecture(NetworkArchitecture):
    """Sizes of a tri-plane NeRF."""

    family: ClassVar[str] = "triplane"
    display_name: ClassVar[str] = "tri-plane"
    activation: ClassVar[Activation] = "sine"
    encoding_keys: ClassVar[tuple[str, ...]] = (KEY,)
    empty_keys: ClassVar[tuple[str, ...]] = ("encoding.params",)  # the parameterless encoding of released tri-planes
    fit_rates: ClassVar[Mapping[str, float]] = {"learning_rate": 2e-3, "encoding_rate": 1e-2}

    frequencies: int = 48
    resolution: int = 32
    channels: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("frequencies", "channels")
        self._require_positive("resolution", least=2)
        self._require_bounded()

    @property
    def encoding_dim(self) -> int:
        return 6 * self.frequencies + self.channels

    @property
    def octaves(self) -> int:
        return self.frequencies

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {**super().tensor_shapes, KEY: (3, self.resolution, self.resolution, self.channels)}

    @classmethod
    def encoding_sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
        planes = shapes[KEY]
        if len(planes) != 4 or planes[0] != 3 or planes[1] != planes[2] or planes[1] < 2 or planes[3] < 1:
            return []
        return [{"resolution": planes[1], "channels": planes[3]}]

    def point_features(self, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
        u, _ = unit_coordinates(xyz, self.box)
        waves = frequency_features(float32_unit_coordinates(xyz, u, self.box), self.frequencies)
        return torch.cat([waves, triplane_features(tensors[KEY], u)], dim=-1)

    def training_features(self, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
        return torch.cat([frequency_features(u, octaves), _training_features(tensors[KEY], u)], dim=-1)

    def canonical_encoding(
        self, tensors: Mapping[str, Tensor], columns: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Functions of one axis are shared by the planes that have it; then the channels in canonical coordinates."""
        waves, read = columns.split([6 * self.frequencies, self.channels], dim=2)
        cells, found, shift = canonical_features(_shared_between_planes(tensors[KEY]).flatten(1, 3), read)
        # The mean over all cells is in each of the three planes, which are added.
        return {KEY: cells.view_as(tensors[KEY])}, torch.cat([waves, found], dim=2), 3 * shift

    def add_blocks(self, builder: GraphBuilder, layout: GraphLayout) -> None:
        """Spatial nodes to channel nodes, then the network on coordinates and channels (#tri-plane-graph)."""
        resolution, channels = self.resolution, self.channels
        coordinates = builder.nodes(6 * self.frequencies, 0, NodeType.NEURON, first_index=0)
        spatial = builder.nodes(3 * resolution**2, 0, NODE_TYPE, first_index=0)
        channel = builder.nodes(channels, 0, NODE_TYPE)
        positions, index = _positions(resolution, channels, layout)
        builder.blocks.append(
            Block(
                sources=(spatial,),
                targets=channel,
                weights=WeightSlice(KEY, 0, 1, channels),
                attributes=edge_attributes(0, EDGE_TYPE, positions),
                attribute_index=index,
                source_major=True,
            )
        )
        self.add_network(builder, (coordinates, channel), first_layer=1)


def triplane_features(planes: Tensor, u: Tensor) -> Tensor:
    """Sum of the three planes' bilinear samples (#tri-plane).

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


def _training_features(planes: Tensor, u: Tensor) -> Tensor:
    """`triplane_features` for points in the closed unit cube."""
    nerfs, _, resolution, _, channels = planes.shape
    index, weight = corner_cells(u, resolution)
    offset = torch.arange(nerfs, device=u.device, dtype=torch.int32)[:, None] * (3 * resolution**2)
    return interpolate(planes.reshape(-1, channels), (index + offset).flatten(1), weight.flatten(1)).view(
        *u.shape[:2], channels
    )


def corner_cells(u: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Where `triplane_features` reads.

    Args:
        u: ``(..., 3)`` in the closed unit cube.
        resolution: R.

    Returns:
        cells int32, numbered plane by plane and row by row in 0..3 R^2 - 1, and weights, each ``(12, ...)``: the four corners of
        the first plane, of the second, of the third.
    """
    position = u * (resolution - 1)
    low = position.floor().clamp_(max=resolution - 2)
    fraction = position - low
    cell = low.to(torch.int32)
    indices, weights = [], []
    for plane, (column, row) in enumerate(((0, 1), (0, 2), (1, 2))):
        for down in (0, 1):
            for right in (0, 1):
                indices.append((plane * resolution + cell[..., row] + down) * resolution + cell[..., column] + right)
                share = fraction[..., row] if down else 1 - fraction[..., row]
                weights.append(share * (fraction[..., column] if right else 1 - fraction[..., column]))
    return torch.stack(indices), torch.stack(weights)


def _shared_between_planes(planes: Tensor) -> Tensor:
    """Planes ``(B, 3, R, R, C)`` with the same sum, in which what depends on one axis alone is in both planes of that axis.

    A function of x that is added to plane xy and taken away from plane xz leaves the sum as it is. Of all such planes these have
    the smallest squares.
    """
    mean = planes.mean(dim=(2, 3), keepdim=True)
    columns, rows = planes.mean(dim=2, keepdim=True) - mean, planes.mean(dim=3, keepdim=True) - mean
    rest = planes - columns - rows - mean
    # Planes xy, xz, yz: the first axis along the columns, the second along the rows.
    x, y, z = (
        (columns[:, 0] + columns[:, 1]) / 2,
        (rows[:, 0].transpose(1, 2) + columns[:, 2]) / 2,
        (rows[:, 1] + rows[:, 2]) / 2,
    )
    shared = torch.stack([x + y.transpose(1, 2), x + z, y + z], dim=1)
    return rest + shared + mean.mean(dim=1, keepdim=True)


def _positions(resolution: int, channels: int, layout: GraphLayout) -> tuple[Tensor, Tensor]:
    """Positions ``(3 R^2, 3)`` of the planes' cells, and which of them each edge has ``(C, 3 R^2)``.

    Geometric positions are where the field reads: columns carry the first axis of planes xy, xz, yz and rows the second
    (#tri-plane). Released ones were made for planes stored channel by channel, and are laid over planes stored channel last
    (#tri-plane-graph).
    """
    area = resolution**2
    line = torch.linspace(-1, 1, resolution, dtype=torch.float32)
    row, column, zero = line.repeat_interleave(resolution), line.repeat(resolution), torch.zeros(area)
    if layout == "geometric":
        planes = [(column, row, zero), (column, zero, row), (zero, column, row)]
        index = torch.arange(3 * area).expand(channels, -1)
    else:
        planes = [(row, column, zero), (zero, row, column), (column, zero, row)]
        within = (torch.arange(area)[None, :] * channels + torch.arange(channels)[:, None]) % area
        index = torch.cat([within + plane * area for plane in range(3)], dim=1)
    return torch.cat([torch.stack(plane, dim=1) for plane in planes]), index


register_family(
    TriplaneArchitecture,
    "TRI",
    paper={
        "TRI": TriplaneArchitecture(),
        "TRI-2L": TriplaneArchitecture(hidden_layers=2),
        "TRI-32H": TriplaneArchitecture(hidden_dim=32),
        "TRI-16W": TriplaneArchitecture(resolution=16),
        "TRI-8C": TriplaneArchitecture(channels=8),
    },
    nano=TriplaneArchitecture(hidden_layers=2, hidden_dim=24, frequencies=8, resolution=16, channels=4),
)
