"""The parts of a parameter graph: groups of nodes, and the complete bipartite blocks of edges that a family's weights make.

Source: docs/released_format.md#parameter-graph and the paper, Appendix A. A family says its blocks in
`NerfArchitecture.add_blocks`; the graph that they make, its edge list and its dense evaluation are the encoder's
(`encoders/gmn`).

Shapes: a block has T targets and S sources, and T x S edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

GraphLayout = Literal["released", "geometric"]
"""Edge positions: as the released encoder was trained with them, or as the paper describes them."""


class NodeType(IntEnum):
    """Rows of the encoder's node type table that every network uses; a family adds those of its own tensors."""

    NEURON = 0
    BIAS = 1


class EdgeType(IntEnum):
    """Rows of the encoder's edge type table that every network uses; a family adds those of its own tensors."""

    WEIGHT = 0
    BIAS = 1


NO_POSITION = -1.0
"""The position of an edge that has none."""


@dataclass(frozen=True, eq=False)
class NodeGroup:
    """Nodes with consecutive numbers.

    Attributes:
        start: number of the first node.
        count: number of nodes.
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
        weights: where the edges' values stand in the NeRF's tensors.
        attributes: float32 ``(P, 5)``, the distinct constant features of the edges: layer, edge type, three positions.
        attribute_index: row of `attributes` that each edge has, int64 ``(T, S)``; None when P is 1.
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
        """Add `count` nodes of a layer; `first_index` as in `NodeGroup`."""
        start = self.groups[-1].stop if self.groups else 0
        self.groups.append(NodeGroup(start, count, layer, type, first_index))
        return self.groups[-1]
