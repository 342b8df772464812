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
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from ...nerfs.architectures import NerfArchitecture
from ...nerfs.blocks import Block, GraphBuilder, GraphLayout, NodeGroup
from ...nerfs.canonical import canonical_nerfs
from ...nerfs.probing import visible_field
from ...nerfs.record import Nerf, NerfBatch
from .positions import NodeBounds, bounded_blocks

if TYPE_CHECKING:
    from torch_geometric.data import Data


_ALL = -1  # stands for all edge types


@dataclass(frozen=True, eq=False)
class ParameterGraph:
    """Nodes in order of their numbers, blocks in order of their edges (which is a topological order).

    Attributes:
        groups, blocks: all nodes and edges; attributes of blocks are bounded already, if they shall be.
        bounds: what layers and indices of nodes are divided by; None: nothing.
    """

    groups: tuple[NodeGroup, ...]
    blocks: tuple[Block, ...]
    bounds: NodeBounds | None = None

    @property
    def num_nodes(self) -> int:
        return self.groups[-1].stop

    @property
    def num_edges(self) -> int:
        return sum(block.num_edges for block in self.blocks)

    def node_features(self) -> Tensor:
        """x ``(N, 3)``: layer, neuron index, node type; int64, float32 where positions are bounded."""
        return torch.cat([self.group_features(group) for group in self.groups])

    def group_features(self, group: NodeGroup) -> Tensor:
        """The rows of `node_features` of a group."""
        return group.features() if self.bounds is None else self.bounds.features(group)

    def kinds(self, *, apart: bool) -> tuple[list[list[tuple[int, Tensor | None]]], dict[int, int]]:
        """What a readout takes means over: edges of each type, or all of them as type -1.

        Returns:
            for each block the types of its edges, each with the edges ``(T, S)`` (bool) that have it, None for all of them;
            and the number of edges of each type.
        """
        if not apart:
            return [[(_ALL, None)] for _ in self.blocks], {_ALL: self.num_edges}
        return self._kinds

    @functools.cached_property
    def _kinds(self) -> tuple[list[list[tuple[int, Tensor | None]]], dict[int, int]]:
        found: list[list[tuple[int, Tensor | None]]] = []
        counts: dict[int, int] = {}
        for block in self.blocks:
            types = block.attributes[:, 1].long()
            index = torch.zeros(1, 1, dtype=torch.int64) if block.attribute_index is None else block.attribute_index
            edges = types[index].expand(block.targets.count, block.num_sources)
            kinds = edges.unique().tolist()
            found.append([(kind, None if len(kinds) == 1 else edges == kind) for kind in kinds])
            for kind in kinds:
                counts[kind] = counts.get(kind, 0) + int((edges == kind).sum())
        return found, counts


def edge_values(block: Block, tensors: Mapping[str, Tensor], *, standardised: bool) -> Tensor:
    """The values ``(B, T, S)`` of a block's edges in stacked NeRFs, `standardised` as in `GmnConfig`.

    A neuron of n inputs has weights of about ``1 / sqrt(n)``, before a fit, after it and in canonical weights, whose tables have
    variance 1. A formula takes nothing away from the values, as division by a NeRF's own spread would.
    """
    values = block.values(tensors)
    if not standardised or block.source_major:
        return values
    return values * math.sqrt(block.num_sources)


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
def build_parameter_graph(
    architecture: NerfArchitecture, layout: GraphLayout = "released", *, bounded_positions: bool = False
) -> ParameterGraph:
    """The parameter graph of an architecture.

    Args:
        architecture: family and sizes.
        layout: `"released"` for the positions of docs/released_format.md#parameter-graph (what released encoders were trained
            with), `"geometric"` for those of the paper: where a tri-plane feature really lies, and a hash entry's own number.
        bounded_positions: as in `GmnConfig`.

    Raises:
        ValueError: a family that has no graph, one with more than `MAX_EDGES`, or an unknown layout.
    """
    check_graph(architecture)
    if layout not in get_args(GraphLayout):
        raise ValueError(f"unknown graph layout {layout!r}; expected one of {', '.join(get_args(GraphLayout))}")
    builder = GraphBuilder()
    architecture.add_blocks(builder, layout)
    groups, blocks = tuple(builder.groups), tuple(builder.blocks)
    if bounded_positions:
        return ParameterGraph(groups, tuple(bounded_blocks(blocks)), NodeBounds.of(groups))
    return ParameterGraph(groups, blocks)


@functools.lru_cache(maxsize=16)
def _edge_template(graph: ParameterGraph) -> tuple[Tensor, Tensor, Tensor]:
    """What the edge lists of an architecture share: x, edge_index, and edge_attr ``(E, 5)`` without the values."""
    indices, attributes = [], []
    for block in graph.blocks:
        targets = torch.arange(block.targets.start, block.targets.stop)
        sources = torch.cat([torch.arange(group.start, group.stop) for group in block.sources])
        source, target = torch.broadcast_tensors(sources[None, :], targets[:, None])
        index = torch.zeros_like(source) if block.attribute_index is None else block.attribute_index
        indices.append(torch.stack([block.edge_order(source), block.edge_order(target)]))
        attributes.append(block.attributes[block.edge_order(index)])
    return graph.node_features(), torch.cat(indices, dim=1), torch.cat(attributes)


def parameter_graph(
    nerf: Nerf,
    *,
    layout: GraphLayout = "released",
    canonical: bool = False,
    standardised: bool = False,
    bounded_positions: bool = False,
    probes: Tensor | None = None,
) -> Data:
    """The parameter graph of a NeRF as the edge list of docs/released_format.md#parameter-graph.

    An encoder's own kind of graph is ``parameter_graph(nerf, **encoder.config.graph_options)``.

    Args:
        nerf: a NeRF of any family that has a graph.
        layout: edge positions, as in `build_parameter_graph`.
        canonical, standardised, bounded_positions: as in `GmnConfig`; the graph then says so, as ``options``.
        probes: points ``(K, 3)`` at which to ask the field too, what no graph of weights can say; an encoder with probes reads
            the answers (`GmnEncoder.probe_points`).

    Returns:
        `torch_geometric.data.Data` on the device of the NeRF:

        * ``x`` int64 ``(N, 3)``, float32 where positions are bounded: layer, neuron index (-1 for hidden nodes), node type;
        * ``edge_index`` int64 ``(2, E)``: from the input side to the output side;
        * ``edge_attr`` float32 ``(E, 6)``: value, layer, edge type and three positions (-1 where there is none). float64 for
          a float64 NeRF; gradients flow back to its tensors;
        * ``family``: the name of the architecture's family;
        * ``probe_values`` float32 ``(1, K, 4)``, only with `probes`: the answers of `nerfs.probing.visible_field`.

    A network with biases has, as in Lim et al., one bias node after the outputs of each layer with an edge to each of them
    (node and edge type 1, index and positions -1).
    """
    from torch_geometric.data import Data

    nerfs = NerfBatch(nerf.architecture, {key: tensor[None] for key, tensor in nerf.tensors.items()})
    if canonical:
        nerfs = canonical_nerfs(nerfs)
    graph = build_parameter_graph(nerfs.architecture, layout, bounded_positions=bounded_positions)
    x, edge_index, template = _edge_template(graph)
    found = [
        block.edge_order(edge_values(block, nerfs.tensors, standardised=standardised)[0]) for block in graph.blocks
    ]
    values = torch.cat(found)
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    attributes = template.to(values.device, dtype)
    edge_attr = torch.cat([values[:, None].to(dtype), attributes], dim=1)
    data = Data(
        x=x.to(values.device, copy=True), edge_index=edge_index.to(values.device, copy=True), edge_attr=edge_attr
    )
    data.family = nerf.architecture.family
    if probes is not None:
        data.probe_values = visible_field(NerfBatch.stack([nerf]), probes.to(values.device))
    options = {"canonical": canonical, "standardised": standardised, "bounded_positions": bounded_positions}
    if any(options.values()):
        data.options = ", ".join(name for name, on in options.items() if on)
    return data
