"""Parameter graphs: the weights of a NeRF as nodes and complete bipartite blocks of edges.

Source: FORMATS.md section 3 (what the released encoder was trained on, quirks included) and the paper, Appendix A.
A `ParameterGraph` belongs to an architecture, not to a NeRF: it says which nodes there are, which block each weight is an edge
of, and the features that do not depend on the weights. Two readers use it: `parameter_graph` writes the edge list of the
paper (for PyG, for tests, for any graph), and the encoder's dense path (`dense.py`) works on the blocks and never sees an edge.

Shapes: N nodes, E edges; a block has T targets and S sources, and T x S edges.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from ...nerfs.architectures import (
    BIAS_KEY,
    HASH_KEY,
    MLP_KEY,
    TRIPLANE_KEY,
    HashArchitecture,
    MlpArchitecture,
    NerfArchitecture,
    TriplaneArchitecture,
)

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from ...nerfs.record import Nerf

GraphLayout = Literal["released", "geometric"]
"""Edge positions: as the released encoder was trained with them, or as the paper describes them."""


class NodeType(IntEnum):
    """Rows of the encoder's node type table that the three families use."""

    NEURON = 0
    BIAS = 1
    TRIPLANE = 16
    HASH = 17


class EdgeType(IntEnum):
    """Rows of the encoder's edge type table that the three families use."""

    WEIGHT = 0
    BIAS = 1
    TRIPLANE = 13
    HASH = 14


NO_POSITION = -1.0
"""The position of an edge that has none."""


@dataclass(frozen=True, eq=False)
class NodeGroup:
    """Nodes with consecutive numbers.

    Attributes:
        start: number of the first node.
        count: how many.
        layer: layer number of all of them.
        type: node type of all of them, a `NodeType` or another row of the encoder's table.
        first_index: neuron index of the first, counting up; None for hidden nodes, whose index is -1.
    """

    start: int
    count: int
    layer: int
    type: int
    first_index: int | None

    @property
    def stop(self) -> int:
        return self.start + self.count

    def features(self) -> Tensor:
        """``(count, 3)`` int64: layer, neuron index, node type."""
        x = torch.empty(self.count, 3, dtype=torch.int64)
        x[:, 0] = self.layer
        x[:, 1] = -1 if self.first_index is None else torch.arange(self.first_index, self.first_index + self.count)
        x[:, 2] = int(self.type)
        return x


@dataclass(frozen=True, eq=False)
class WeightSlice:
    """Where the values of a block stand: elements of one flat tensor of the NeRF, and how they lie over the block."""

    key: str
    offset: int
    target_stride: int
    source_stride: int


@dataclass(frozen=True, eq=False)
class Block:
    """All T x S edges from some nodes to a group of others: one linear layer, one tri-plane, one hash level.

    Attributes:
        sources: the source groups, in order; S nodes in all. Parameter graphs are directed acyclic: every source's incoming
            edges lie in earlier blocks. In a network with biases the bias node is the last source.
        targets: the target group; all its incoming edges lie in this block.
        weights: where the values stand.
        attributes: float32 ``(P, 5)``, the distinct constant features of the edges: layer, edge type, three positions.
        attribute_index: which of them each edge has, int64 ``(T, S)``; None when P is 1.
        source_major: whether the edge list runs over sources first (tables) or over targets first (linear layers).
        bias: where the values from the bias node stand, or None; its edges come last in the edge list.
    """

    sources: tuple[NodeGroup, ...]
    targets: NodeGroup
    weights: WeightSlice
    attributes: Tensor
    attribute_index: Tensor | None = None
    source_major: bool = False
    bias: WeightSlice | None = None

    @property
    def num_sources(self) -> int:
        return sum(group.count for group in self.sources)

    @property
    def num_edges(self) -> int:
        return self.num_sources * self.targets.count

    def values(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The edge values ``(B, T, S)`` of stacked NeRF tensors ``(B, ...)``, as a view where there are no biases."""
        if self.bias is None:
            return self._view(tensors, self.weights, self.num_sources)
        weights = self._view(tensors, self.weights, self.num_sources - 1)
        return torch.cat([weights, self._view(tensors, self.bias, 1)], dim=2)

    def _view(self, tensors: Mapping[str, Tensor], weights: WeightSlice, sources: int) -> Tensor:
        flat = tensors[weights.key].flatten(1)
        size = (flat.shape[0], self.targets.count, sources)
        strides = (flat.stride(0), weights.target_stride * flat.stride(1), weights.source_stride * flat.stride(1))
        return flat.as_strided(size, strides, flat.storage_offset() + weights.offset * flat.stride(1))

    def edge_order(self, matrix: Tensor) -> Tensor:
        """Entries of a ``(T, S)`` matrix over the block, flattened to ``(T * S,)`` in the order of the edge list."""
        if self.bias is not None:
            return torch.cat([matrix[:, :-1].flatten(), matrix[:, -1]])
        return (matrix.T if self.source_major else matrix).flatten()


@dataclass(frozen=True, eq=False)
class ParameterGraph:
    """Nodes in order of their numbers, blocks in order of their edges (which is a topological order)."""

    groups: tuple[NodeGroup, ...]
    blocks: tuple[Block, ...]

    @property
    def num_nodes(self) -> int:
        return self.groups[-1].stop

    @property
    def num_edges(self) -> int:
        return sum(block.num_edges for block in self.blocks)

    def node_features(self) -> Tensor:
        """x, int64 ``(N, 3)``: layer, neuron index, node type."""
        return torch.cat([group.features() for group in self.groups])


def edge_attributes(layer: int, type: int, positions: Tensor | None = None) -> Tensor:
    """Constant edge features ``(P, 5)`` for positions ``(P, 3)``, or for the one edge kind without a position."""
    positions = torch.full((1, 3), NO_POSITION) if positions is None else positions.to(torch.float32)
    kind = torch.tensor([[layer, int(type)]], dtype=torch.float32)
    return torch.cat([kind.expand(len(positions), -1), positions], dim=1)


class GraphBuilder:
    """Numbers nodes and collects blocks while a NeRF is walked from input to output.

    Attributes:
        groups: the nodes so far; `nodes` adds some.
        blocks: the blocks so far; each reads nodes whose incoming edges stand in earlier ones.
    """

    def __init__(self) -> None:
        self.groups: list[NodeGroup] = []
        self.blocks: list[Block] = []

    def nodes(self, count: int, layer: int, type: int, *, first_index: int | None = None) -> NodeGroup:
        """Add `count` nodes of a layer; `first_index` as of `NodeGroup`."""
        start = self.groups[-1].stop if self.groups else 0
        self.groups.append(NodeGroup(start, count, layer, type, first_index))
        return self.groups[-1]

    def network(self, architecture: NerfArchitecture, sources: tuple[NodeGroup, ...], first_layer: int) -> None:
        """The linear layers (3.1). The first reads `sources`; matrix columns beyond them (ones, as padding) are left out."""
        offset = bias_offset = 0
        last = len(architecture.layer_shapes) - 1
        for number, (out, width) in enumerate(architecture.layer_shapes):
            layer = first_layer + number
            targets = self.nodes(out, layer + 1, NodeType.NEURON, first_index=0 if number == last else None)
            attributes, index, bias = edge_attributes(layer, EdgeType.WEIGHT), None, None
            if architecture.bias:
                sources = (*sources, self.nodes(1, layer + 1, NodeType.BIAS))
                attributes = torch.cat([attributes, edge_attributes(layer, EdgeType.BIAS)])
                index = torch.zeros(sum(group.count for group in sources), dtype=torch.int64)
                index[-1] = 1
                index = index.expand(out, -1)
                bias = WeightSlice(BIAS_KEY, bias_offset, 1, 1)
            weights = WeightSlice(MLP_KEY, offset, width, 1)
            self.blocks.append(Block(sources, targets, weights, attributes, index, bias=bias))
            sources = (targets,)
            offset += out * width
            bias_offset += out

    def graph(self) -> ParameterGraph:
        return ParameterGraph(tuple(self.groups), tuple(self.blocks))


@functools.lru_cache(maxsize=64)
def build_parameter_graph(architecture: NerfArchitecture, layout: GraphLayout = "released") -> ParameterGraph:
    """The parameter graph of an architecture.

    Args:
        architecture: family and sizes.
        layout: `"released"` for the positions of FORMATS.md section 3 (what released encoders were trained with),
            `"geometric"` for those of the paper: where a tri-plane feature really lies, and a hash entry's own number.
    """
    if layout not in get_args(GraphLayout):
        raise ValueError(f"unknown graph layout {layout!r}; expected one of {', '.join(get_args(GraphLayout))}")
    builder = GraphBuilder()
    add_blocks(architecture, builder, layout)
    return builder.graph()


@functools.singledispatch
def add_blocks(architecture: NerfArchitecture, builder: GraphBuilder, layout: GraphLayout) -> None:
    """Put a family's nodes and blocks into a builder, by the class of the architecture; a family adds its own with `register`.

    Raises `TypeError` for a class that none was registered for.
    """
    raise TypeError(f"no graph is known for {type(architecture).__name__}; add it with graph.add_blocks.register")


@add_blocks.register(MlpArchitecture)
def _(architecture: MlpArchitecture, builder: GraphBuilder, layout: GraphLayout) -> None:
    """The network on the coordinates' features (3.2)."""
    inputs = builder.nodes(architecture.input_dim, 0, NodeType.NEURON, first_index=0)
    builder.network(architecture, (inputs,), first_layer=0)


@add_blocks.register(TriplaneArchitecture)
def _(architecture: TriplaneArchitecture, builder: GraphBuilder, layout: GraphLayout) -> None:
    """Spatial nodes to channel nodes, then the network on coordinates and channels (3.3)."""
    resolution, channels = architecture.resolution, architecture.channels
    spatial_count = 3 * resolution**2
    coordinates = builder.nodes(6 * architecture.frequencies, 0, NodeType.NEURON, first_index=0)
    spatial = builder.nodes(spatial_count, 0, NodeType.TRIPLANE, first_index=0)
    channel = builder.nodes(channels, 0, NodeType.TRIPLANE)
    positions, index = (_released_plane_positions if layout == "released" else _plane_positions)(resolution, channels)
    builder.blocks.append(
        Block(
            sources=(spatial,),
            targets=channel,
            weights=WeightSlice(TRIPLANE_KEY, 0, 1, channels),
            attributes=edge_attributes(0, EdgeType.TRIPLANE, positions),
            attribute_index=index,
            source_major=True,
        )
    )
    builder.network(architecture, (coordinates, channel), first_layer=1)


def _released_plane_positions(resolution: int, channels: int) -> tuple[Tensor, Tensor]:
    """Positions as released: made for planes stored channel by channel, laid over planes stored channel last (Q3, Q4)."""
    area = resolution**2
    line = torch.linspace(-1, 1, resolution, dtype=torch.float32)
    row, column, zero = line.repeat_interleave(resolution), line.repeat(resolution), torch.zeros(area)
    positions = torch.cat(
        [
            torch.stack([row, column, zero], dim=1),
            torch.stack([zero, row, column], dim=1),
            torch.stack([column, zero, row], dim=1),
        ]
    )
    edge = torch.arange(area)[None, :] * channels + torch.arange(channels)[:, None]
    within = edge % area
    return positions, torch.cat([within + plane * area for plane in range(3)], dim=1)


def _plane_positions(resolution: int, channels: int) -> tuple[Tensor, Tensor]:
    """Positions as the field reads them: columns carry the first axis of planes xy, xz, yz and rows the second (2.3)."""
    area = resolution**2
    line = torch.linspace(-1, 1, resolution, dtype=torch.float32)
    row, column, zero = line.repeat_interleave(resolution), line.repeat(resolution), torch.zeros(area)
    positions = torch.cat(
        [
            torch.stack([column, row, zero], dim=1),
            torch.stack([column, zero, row], dim=1),
            torch.stack([zero, column, row], dim=1),
        ]
    )
    return positions, torch.arange(3 * area).expand(channels, -1)


@add_blocks.register(HashArchitecture)
def _(architecture: HashArchitecture, builder: GraphBuilder, layout: GraphLayout) -> None:
    """Entry nodes to feature nodes level by level, then the network on the feature nodes (3.4)."""
    features = architecture.features_per_entry
    sizes = architecture.level_entries
    starts = [sum(sizes[:level]) for level in range(architecture.levels)]
    entries = [builder.nodes(n, 0, NodeType.HASH, first_index=start) for n, start in zip(sizes, starts, strict=True)]
    # The released builder hard-codes 16 feature nodes, which is the padded width of every network it met; those beyond the
    # levels' own stand for the padding with ones and have no incoming edge.
    outputs = tuple(builder.nodes(features, 0, NodeType.HASH) for _ in entries)
    padding = architecture.input_dim - architecture.encoding_dim
    sources = (*outputs, builder.nodes(padding, 0, NodeType.HASH)) if padding else outputs
    builder.nodes(architecture.input_dim, 0, NodeType.NEURON, first_index=0)  # Q7: orphans, without an edge
    for level, (group, targets) in enumerate(zip(entries, outputs, strict=True)):
        number = torch.arange(group.count * features)
        entry = number if layout == "released" else number // features  # Q5: the flat number, not the entry's
        positions = torch.stack([torch.full_like(entry, level), entry, torch.full_like(entry, -1)], dim=1)
        builder.blocks.append(
            Block(
                sources=(group,),
                targets=targets,
                weights=WeightSlice(HASH_KEY, starts[level] * features, 1, features),
                attributes=edge_attributes(0, EdgeType.HASH, positions),
                attribute_index=number.view(group.count, features).T,
                source_major=True,
            )
        )
    builder.network(architecture, sources, first_layer=0)


@functools.lru_cache(maxsize=16)
def _edge_template(architecture: NerfArchitecture, layout: GraphLayout) -> tuple[Tensor, Tensor, Tensor]:
    """What the edge lists of an architecture share: x, edge_index, and edge_attr ``(E, 5)`` without the values."""
    graph = build_parameter_graph(architecture, layout)
    indices, attributes = [], []
    for block in graph.blocks:
        targets = torch.arange(block.targets.start, block.targets.stop)
        sources = torch.cat([torch.arange(group.start, group.stop) for group in block.sources])
        source, target = torch.broadcast_tensors(sources[None, :], targets[:, None])
        index = torch.zeros_like(source) if block.attribute_index is None else block.attribute_index
        indices.append(torch.stack([block.edge_order(source), block.edge_order(target)]))
        attributes.append(block.attributes[block.edge_order(index)])
    return graph.node_features(), torch.cat(indices, dim=1), torch.cat(attributes)


def parameter_graph(nerf: Nerf, *, layout: GraphLayout = "released") -> Data:
    """The parameter graph of a NeRF as the edge list of FORMATS.md section 3.

    Args:
        nerf: of any family.
        layout: see `build_parameter_graph`.

    Returns:
        `torch_geometric.data.Data` on the device of the NeRF:

        * ``x`` int64 ``(N, 3)``: layer, neuron index (-1 for hidden nodes), node type;
        * ``edge_index`` int64 ``(2, E)``: from the input side to the output side;
        * ``edge_attr`` float32 ``(E, 6)``: value, layer, edge type and three positions (-1 where there is none). float64 for
          a float64 NeRF; gradients flow back to its tensors.

    A network with biases has, as in Lim et al., one bias node after the outputs of each layer with an edge to each of them
    (node and edge type 1, index and positions -1).
    """
    from torch_geometric.data import Data

    graph = build_parameter_graph(nerf.architecture, layout)
    x, edge_index, template = _edge_template(nerf.architecture, layout)
    stacked = {key: tensor[None] for key, tensor in nerf.tensors.items()}
    values = torch.cat([block.edge_order(block.values(stacked)[0]) for block in graph.blocks])
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    attributes = template.to(values.device, dtype)
    edge_attr = torch.cat([values[:, None].to(dtype), attributes], dim=1)
    return Data(
        x=x.to(values.device, copy=True), edge_index=edge_index.to(values.device, copy=True), edge_attr=edge_attr
    )
