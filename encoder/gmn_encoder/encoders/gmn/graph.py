"""Parameter graphs: the weights of a NeRF as nodes and complete bipartite blocks of edges.

Source: docs/released_format.md#parameter-graph (what the released encoder was trained on, quirks included) and the paper,
Appendix A. A `ParameterGraph` belongs to an architecture, not to a NeRF: it says which nodes there are, which block each weight
is an edge of, and the features that do not depend on the weights; each family says its own (`NerfArchitecture.add_blocks`). Two
readers use
it: `parameter_graph` writes the edge list of the paper (for PyG, for tests, for any graph), and the encoder's dense path
(`dense.py`) works on the blocks and never sees an edge.

Shapes: N nodes, E edges; a block has T targets and S sources, and T x S edges.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from ...nerfs.architectures import NerfArchitecture
from ...nerfs.blocks import Block, GraphBuilder, GraphLayout, NodeGroup

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from ...nerfs.record import Nerf


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


MAX_EDGES = 1 << 23
"""Edges of a graph, which are the weights of a NeRF; the paper's largest has 78,000. Eight million take half a gibibyte before
an encoder works on them."""


def check_graph(architecture: NerfArchitecture) -> None:
    """Raise `ValueError` for an architecture without a parameter graph, or with one that is too large."""
    if not architecture.has_graph:
        architecture.add_blocks(GraphBuilder(), "released")  # which says so
    if (weights := architecture.num_parameters) > MAX_EDGES:
        raise ValueError(
            f"{architecture.name} has {weights:,} weights, each an edge of its parameter graph; expected at most {MAX_EDGES:,}: "
            "fit a smaller NeRF"
        )


@functools.lru_cache(maxsize=64)
def build_parameter_graph(architecture: NerfArchitecture, layout: GraphLayout = "released") -> ParameterGraph:
    """The parameter graph of an architecture.

    Args:
        architecture: family and sizes.
        layout: `"released"` for the positions of docs/released_format.md#parameter-graph (what released encoders were trained
            with), `"geometric"` for those of the paper: where a tri-plane feature really lies, and a hash entry's own number.

    Raises:
        ValueError: a family that has no graph, one with more than `MAX_EDGES`, or an unknown layout.
    """
    check_graph(architecture)
    if layout not in get_args(GraphLayout):
        raise ValueError(f"unknown graph layout {layout!r}; expected one of {', '.join(get_args(GraphLayout))}")
    builder = GraphBuilder()
    architecture.add_blocks(builder, layout)
    return ParameterGraph(tuple(builder.groups), tuple(builder.blocks))


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
    """The parameter graph of a NeRF as the edge list of docs/released_format.md#parameter-graph.

    Args:
        nerf: a NeRF of any family that has a graph.
        layout: edge positions, as in `build_parameter_graph`.

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
