"""The encoder on complete bipartite blocks: the numbers of the edge-list path without an edge list.

The formulas are those of docs/released_format.md#encoder; what is different is the order of the work.

* **Walk.** A parameter graph is directed and acyclic, and all incoming edges of a node lie in one block. So blocks are taken
  in topological order, and for some of a block's targets at a time their edges run through *all* message-passing layers and
  the readout before the next ones are touched. A tile of edges lives in cache; nothing of the size of all edges ever exists.
* **Once per node.** Products of node features are computed per node and added to edges by broadcasting. Nodes without
  incoming edges (inputs, grid cells, hash entries) never see a weight: all their products are constants of the architecture,
  as are the products of the edges' layer, type and position.
* **Folding.** Linear maps in a row become one, see `folding.py`.

Without gradients, folded weights and constants are kept until a parameter changes. With gradients, the same code builds an
autograd graph; the readout recomputes its tiles in the backward pass.

Shapes: B NeRFs, T targets and S sources of a block, H hidden (128), D embedding (1024), L message-passing layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nerfs.blocks import Block, NodeGroup
from ...nerfs.canonical import canonical_nerfs
from ...nerfs.record import NerfBatch
from .config import GmnConfig
from .folding import FoldedWeights, fold
from .graph import ParameterGraph, build_parameter_graph, edge_values
from .kernels import edge_update, readout_sum
from .modules import Gnn, GnnWithReadout, PreEncoder

if TYPE_CHECKING:
    from ...nerfs.architectures import NerfArchitecture

# Edges in a tile: on CPUs so that a tile's buffers (4096 x 128 floats each, of other widths as much) stay near the cores; on a
# GPU as many as fill it.
_CPU_TILE = 4096 * 128
_GPU_TILE = 1 << 19
_CONSTANT_ROWS = 2048  # edges whose constant features are worked out at a time


@dataclass(frozen=True, eq=False)
class NodeStates:
    """What edges need of their source nodes: one ``(B or 1, n, H)`` tensor a layer."""

    edge: tuple[Tensor, ...]
    message: tuple[Tensor, ...]

    @classmethod
    def concatenate(cls, states: list[NodeStates], batch: int) -> NodeStates:
        """Side by side along the nodes; constants are repeated where others depend on the NeRF."""
        if len(states) == 1:
            return states[0]
        size = batch if any(state.edge[0].shape[0] != 1 for state in states) else 1

        def join(tensors: tuple[Tensor, ...]) -> Tensor:
            return torch.cat([tensor.expand(size, -1, -1) for tensor in tensors], dim=1)

        edge = tuple(map(join, zip(*[state.edge for state in states], strict=True)))
        return cls(edge, tuple(map(join, zip(*[state.message for state in states], strict=True))))

    def batch_slice(self, part: slice) -> NodeStates:
        def cut(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor[part]

        return NodeStates(tuple(map(cut, self.edge)), tuple(map(cut, self.message)))


@dataclass(frozen=True, eq=False)
class GraphConstants:
    """What the parameters of the encoder make of an architecture, whatever the weights of the NeRF.

    Attributes:
        edges: constant part of the edge features of each block ``(P, H)``, centred.
        targets: initial features of the targets of each block ``(1, T, H)``.
        states: states of each group without incoming edges, by the number of its first node.
    """

    edges: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    states: dict[int, NodeStates]


def graph_constants(
    pre_encoder: PreEncoder, network: Gnn, graph: ParameterGraph, weights: FoldedWeights
) -> GraphConstants:
    pre: Any = pre_encoder
    gnn: Any = network
    projection = pre.x_proj.weight
    node_dtype = weights.value_phase.dtype
    edge_dtype = weights.value.dtype

    def initial(group: NodeGroup) -> Tensor:
        return gnn.node_embed(pre.nodes(graph.group_features(group).to(projection.device)))[None].to(node_dtype)

    # The value's own part of the projection is left out by taking the sine of a zero value away again.
    value = gnn.edge_embed.weight.double() @ pre.edge_attr_proj.weight[:, : len(projection)].double()
    zero = value @ torch.sin(pre.weight_encoder[0].bias.double())

    def constant(attributes: Tensor) -> Tensor:
        edge = gnn.edge_embed(pre.edges(F.pad(attributes.to(projection), (1, 0)))).double() - zero
        return (edge - edge.mean(dim=1, keepdim=True)).to(edge_dtype)

    edges = [torch.cat([constant(part) for part in block.attributes.split(_CONSTANT_ROWS)]) for block in graph.blocks]
    with_incoming = {block.targets.start for block in graph.blocks}
    used = {group.start for block in graph.blocks for group in block.sources}
    states = {}
    for group in graph.groups:
        if group.start in with_incoming or group.start not in used:
            continue
        x = initial(group)
        walk = _NodeWalk(network, weights, x)
        for layer in range(len(weights.layers) - 1):
            walk.update(layer, torch.zeros_like(x))
        states[group.start] = walk.states()
    return GraphConstants(tuple(edges), tuple(initial(block.targets) for block in graph.blocks), states)


class _NodeWalk:
    """Features of some nodes through the message-passing layers, and the products that edges need of them."""

    def __init__(self, gnn: Gnn, weights: FoldedWeights, x: Tensor) -> None:
        self._blocks = gnn.convs
        self._weights = weights
        self._x = x
        self._read = [self._normalised(0)]

    def _normalised(self, layer: int) -> Tensor:
        block: Any = self._blocks[layer]
        return (
            F.layer_norm(
                self._x,
                self._x.shape[-1:],
                block.node_norm.weight.to(self._x.dtype),
                block.node_norm.bias.to(self._x.dtype),
                block.node_norm.eps,
            )
            if block.update_nodes
            else self._x
        )

    def target_product(self, layer: int) -> Tensor:
        """What a layer's edges need of their target: ``(B, T, H)``, with the bias of the edge map."""
        folded = self._weights.layers[layer]
        return torch.matmul(self._read[layer], folded.edge_target) + folded.edge_bias

    def update(self, layer: int, mean_message: Tensor) -> None:
        """Advance the nodes past a layer, given the mean ``(B, T, H)`` of their incoming messages."""
        block: Any = self._blocks[layer]
        dtype = self._x.dtype
        linear, out = block.conv.node_model.node_mlp_2[0], block.node_mlp[1]
        read = torch.cat([self._read[layer].expand(mean_message.shape), mean_message], dim=-1)
        update = torch.relu(F.linear(read, linear.weight.to(dtype), linear.bias.to(dtype)))
        self._x = self._x + F.linear(F.silu(update), out.weight.to(dtype), out.bias.to(dtype))
        self._read.append(self._normalised(layer + 1))

    def states(self) -> NodeStates:
        layers = self._weights.layers
        dtype = self._weights.value.dtype
        edge = tuple(torch.matmul(x, f.edge_source).to(dtype) for x, f in zip(self._read, layers, strict=True))
        message = tuple(
            (torch.matmul(x, f.message_source) + f.message_bias).to(dtype)
            for x, f in zip(self._read, layers, strict=True)
            if f.message_source is not None and f.message_bias is not None
        )
        return NodeStates(edge, message)


class DenseReadout:
    """Runs an encoder's modules on blocks. Holds nothing but a cache, which copies and pickles leave behind."""

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}
        self._cached_state: Any = None

    def __reduce__(self) -> tuple[type[DenseReadout], tuple[()]]:
        return DenseReadout, ()

    def __call__(
        self,
        pre_encoder: PreEncoder,
        network: GnnWithReadout,
        nerfs: NerfBatch,
        *,
        config: GmnConfig,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Readouts ``(B, readout_units)`` of NeRFs of one architecture, see `GmnEncoder.embed_readouts`."""
        dtype = dtype or pre_encoder.x_proj.weight.dtype
        if not dtype.is_floating_point:
            raise TypeError(f"dtype of the heavy products must be a floating-point type, got {dtype}")
        if config.canonical:
            nerfs = canonical_nerfs(nerfs)
        graph = build_parameter_graph(nerfs.architecture, config.layout, bounded_positions=config.bounded_positions)
        weights, constants = self._prepare(pre_encoder, network, graph, (dtype, nerfs.architecture, config))
        return _walk(network.gnn, nerfs, graph, weights, constants, config)

    def _prepare(
        self,
        pre_encoder: PreEncoder,
        network: GnnWithReadout,
        graph: ParameterGraph,
        key: tuple[torch.dtype, NerfArchitecture, GmnConfig],
    ) -> tuple[FoldedWeights, GraphConstants]:
        dtype, parts = key[0], (pre_encoder, network)
        if torch.is_grad_enabled() and any(p.requires_grad for part in parts for p in part.parameters()):
            weights = fold(pre_encoder, network, dtype)
            return weights, graph_constants(pre_encoder, network.gnn, graph, weights)
        # Buffers too: a model that freezes an encoder may hold its weights as such.
        tensors = (tensor for part in parts for tensor in itertools.chain(part.parameters(), part.buffers()))
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if state != self._cached_state:
            self._cache.clear()
            self._cached_state = state
        with torch.no_grad():
            if dtype not in self._cache:
                self._cache[dtype] = fold(pre_encoder, network, dtype)
            weights = self._cache[dtype]
            if key not in self._cache:
                self._cache[key] = graph_constants(pre_encoder, network.gnn, graph, weights)
        return weights, self._cache[key]


def _tiles(batch: int, targets: int, sources: int, hidden: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Parts of a ``(B, T)`` grid of targets whose edges make a tile: several NeRFs where a whole block is small."""
    rows = max(1, _CPU_TILE // hidden) if device.type == "cpu" else _GPU_TILE
    at_once = max(1, min(batch, rows // (targets * sources)))
    step = targets if at_once > 1 else max(1, min(targets, rows // sources))
    for b in range(0, batch, at_once):
        for t in range(0, targets, step):
            yield slice(b, min(b + at_once, batch)), slice(t, min(t + step, targets))


def _walk(
    gnn: Gnn,
    nerfs: NerfBatch,
    graph: ParameterGraph,
    weights: FoldedWeights,
    constants: GraphConstants,
    config: GmnConfig,
) -> Tensor:
    batch, hidden = len(nerfs), len(weights.value)
    states = dict(constants.states)
    kinds, counts = graph.kinds(apart=config.readout_per_kind)
    parts: dict[int, list[list[Tensor]]] = {kind: [[] for _ in range(batch)] for kind in counts}
    sources_needed_later = {group.start for block in graph.blocks for group in block.sources}
    for number, block in enumerate(graph.blocks):
        sources = NodeStates.concatenate([states[group.start] for group in block.sources], batch)
        values = edge_values(block, nerfs.tensors, standardised=config.standardised).to(weights.value_phase.dtype)
        done: dict[int, list[NodeStates]] = {}
        for in_batch, in_targets in _tiles(batch, block.targets.count, block.num_sources, hidden, values.device):
            initial = constants.targets[number][:, in_targets].expand(in_batch.stop - in_batch.start, -1, -1)
            walk = _NodeWalk(gnn, weights, initial)
            edges = _edges(
                values[in_batch, in_targets],
                _constant_rows(block, constants.edges[number], in_targets),
                sources.batch_slice(in_batch),
                walk,
                weights,
            )
            for kind, sums in _readouts(edges, kinds[number], in_targets, weights):
                for i, total in zip(range(in_batch.start, in_batch.stop), sums, strict=True):
                    parts[kind][i].append(total)
            del edges  # before the next tile
            if block.targets.start in sources_needed_later:
                done.setdefault(in_batch.start, []).append(walk.states())
        if done:
            rows = [NodeStates.concatenate(row, row[0].edge[0].shape[0]) for row in done.values()]
            states[block.targets.start] = rows[0] if len(rows) == 1 else _stack_rows(rows)
    means = [
        torch.stack([torch.stack(part).sum(dim=0) for part in of_nerfs]) / counts[kind]
        for kind, of_nerfs in parts.items()
    ]
    return means[0] if len(means) == 1 else torch.stack(means).sum(dim=0)


def _stack_rows(rows: list[NodeStates]) -> NodeStates:
    edge = tuple(torch.cat(tensors) for tensors in zip(*[row.edge for row in rows], strict=True))
    return NodeStates(edge, tuple(torch.cat(tensors) for tensors in zip(*[row.message for row in rows], strict=True)))


def _constant_rows(block: Block, constant: Tensor, targets: slice) -> Tensor:
    """The constant part of the edge features of some targets: ``(T, S, H)``, or ``(1, 1, H)`` where all edges share it."""
    if block.attribute_index is None:
        return constant[None]
    index = block.attribute_index[targets].to(constant.device)
    return constant.index_select(0, index.reshape(-1)).unflatten(0, index.shape)


def _edges(values: Tensor, constant: Tensor, sources: NodeStates, walk: _NodeWalk, weights: FoldedWeights) -> Tensor:
    """Take a tile of edges from values ``(B, T, S)`` to what the readout is made of, ``(B, T, S, H)``."""
    hidden = constant.shape[-1]
    shape = (*values.shape, hidden)
    wave = torch.addcmul(weights.value_phase, values.contiguous()[..., None], weights.value_frequency).sin_()
    wave = wave.to(weights.value.dtype).view(-1, hidden)
    if constant.shape[:2] == (1, 1):
        edge = torch.addmm(constant[0], wave, weights.value).view(shape)
    else:
        edge = torch.addmm(constant.expand(shape).reshape(-1, hidden), wave, weights.value).view(shape)
    for number, layer in enumerate(weights.layers):
        edge, mean = edge_update(
            edge,
            source=sources.edge[number],
            target=walk.target_product(number).to(edge.dtype),
            weight=layer.edge,
            out_weight=layer.edge_out,
            out_bias=layer.edge_out_bias,
            message_source=sources.message[number] if layer.message is not None else None,
            message_weight=layer.message,
            eps=weights.eps,
        )
        if mean is not None:
            walk.update(number, mean.to(weights.value_phase.dtype))
    return edge


def _readouts(
    edges: Tensor, kinds: list[tuple[int, Tensor | None]], targets: slice, weights: FoldedWeights
) -> Iterator[tuple[int, Tensor]]:
    """Sums ``(B, D)`` of the readout over a tile of edges ``(B, T, S, H)``, one for each kind; kinds as of `ParameterGraph`."""
    for kind, has_it in kinds:
        chosen = edges.flatten(1, 2) if has_it is None else edges[:, has_it[targets].to(edges.device)]
        yield kind, readout_sum(chosen, weights.readout, weights.readout_bias, eps=weights.eps)
