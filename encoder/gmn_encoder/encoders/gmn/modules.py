"""The layers of the Graph Meta-Network, along edge lists: the specification that `dense.py` follows block by block.

Source: docs/released_format.md#encoder (module names, concatenation order and quirks of the released encoder) and the paper's
Appendix B. Names of attributes are those of the released state dict.

Shapes: N nodes, E edges, H hidden (128), D embedding (1024).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from .config import GmnConfig
from .positions import frequency_gains

# Edges whose readout the edge-list path sums in the encoder's own precision.
_READOUT_ROWS = 1024


class PreEncoder(nn.Module):
    """Raw graph features to H-dimensional ones (stage A): sines of scalars, tables of types, one projection each."""

    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.node_layer_encoder = nn.Sequential(nn.Linear(1, hidden))
        self.neuron_num_encoder = nn.Sequential(nn.Linear(1, hidden))
        self.node_type_encoder = nn.Embedding(config.num_node_types, hidden)
        self.x_proj = nn.Linear(3 * hidden, hidden)
        self.weight_encoder = nn.Sequential(nn.Linear(1, hidden))
        self.edge_layer_encoder = nn.Sequential(nn.Linear(1, hidden))
        self.conv_pos_encoder = nn.Sequential(nn.Linear(3, hidden))
        self.edge_type_encoder = nn.Embedding(config.num_edge_types, hidden)
        self.edge_attr_proj = nn.Linear(4 * hidden, hidden)
        if config.bounded_positions:
            gains = frequency_gains(hidden)[:, None]
            with torch.no_grad():
                for reader in (
                    self.node_layer_encoder,
                    self.neuron_num_encoder,
                    self.edge_layer_encoder,
                    self.conv_pos_encoder,
                ):
                    reader.get_parameter("0.weight").mul_(gains)

    def nodes(self, x: Tensor) -> Tensor:
        """``(N, 3)`` layer, index, type to ``(N, H)``."""
        values = x.to(self.x_proj.weight.dtype)
        layer = torch.sin(self.node_layer_encoder(values[:, 0:1]))
        index = torch.sin(self.neuron_num_encoder(values[:, 1:2]))
        return self.x_proj(torch.cat([layer, index, self.node_type_encoder(x[:, 2].long())], dim=-1))

    def edges(self, edge_attr: Tensor) -> Tensor:
        """``(E, 6)`` value, layer, type, positions to ``(E, H)``."""
        values = edge_attr.to(self.x_proj.weight.dtype)
        value = torch.sin(self.weight_encoder(values[:, 0:1]))
        layer = torch.sin(self.edge_layer_encoder(values[:, 1:2]))
        position = torch.sin(self.conv_pos_encoder(values[:, 3:6]))
        type = self.edge_type_encoder(edge_attr[:, 2].long())
        return self.edge_attr_proj(torch.cat([value, layer, type, position], dim=-1))


class EdgeModel(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.edge_mlp = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.ReLU())

    def forward(self, source: Tensor, target: Tensor, edge: Tensor) -> Tensor:
        return self.edge_mlp(torch.cat([source, target, edge], dim=-1))


class NodeModel(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.node_mlp_1 = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU())
        self.node_mlp_2 = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU())

    def forward(self, x: Tensor, edge_index: Tensor, edge: Tensor) -> Tensor:
        message = self.node_mlp_1(torch.cat([x[edge_index[0]], edge], dim=-1))
        mean = scatter(message, edge_index[1], dim=0, dim_size=x.shape[0], reduce="mean")
        return self.node_mlp_2(torch.cat([x, mean], dim=-1))


class GraphConvolution(nn.Module):
    def __init__(self, hidden: int, *, update_nodes: bool) -> None:
        super().__init__()
        self.edge_model = EdgeModel(hidden)
        if update_nodes:
            self.node_model = NodeModel(hidden)


class GmnBlock(nn.Module):
    """One message-passing block (stage C). The last block of a network updates edges only, from nodes it does not normalise."""

    def __init__(self, config: GmnConfig, *, update_nodes: bool) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.update_nodes = update_nodes
        self.conv = GraphConvolution(hidden, update_nodes=update_nodes)
        self.edge_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.edge_mlp = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden))
        if update_nodes:
            self.node_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
            self.node_mlp = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, x: Tensor, edge_index: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        nodes = self.node_norm(x) if self.update_nodes else x
        update = self.conv.edge_model(nodes[edge_index[0]], nodes[edge_index[1]], self.edge_norm(edge))
        if self.update_nodes:
            x = x + self.node_mlp(self.conv.node_model(nodes, edge_index, update))
        return x, edge + self.edge_mlp(update)


class Gnn(nn.Module):
    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.node_embed = nn.Linear(hidden, hidden)
        self.edge_embed = nn.Linear(hidden, hidden)
        last = config.num_layers - 1
        self.convs = nn.ModuleList(GmnBlock(config, update_nodes=i < last) for i in range(config.num_layers))
        self.final_layer = nn.Sequential(nn.LayerNorm(hidden, eps=config.layer_norm_eps), nn.Linear(hidden, hidden))

    def forward(self, x: Tensor, edge_index: Tensor, edge: Tensor) -> Tensor:
        x, edge = self.node_embed(x), self.edge_embed(edge)
        for block in self.convs:
            x, edge = block(x, edge_index, edge)
        return self.final_layer(edge)


class Readout(nn.Module):
    """Edge features to one embedding a graph (stage E): a linear layer, ReLU, mean over the graph's edges.

    With edge types, the sum of the means over the edges of each type that the graph has.
    """

    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        self.num_kinds = config.num_edge_types
        self.mlp = nn.Sequential(nn.Linear(config.hidden_dim, config.readout_units), nn.ReLU())

    def forward(self, edge: Tensor, graph: Tensor, num_graphs: int, kinds: Tensor | None = None) -> Tensor:
        """``(E, H)`` to ``(num_graphs, D)``, given the graph and, for means per kind, the type of each edge, int64 ``(E,)``."""
        parts = num_graphs
        if kinds is not None:
            graph, parts = graph * self.num_kinds + kinds, num_graphs * self.num_kinds
        # Over tens of thousands of edges a float32 running sum loses four digits: short sums are added up in float64.
        total = torch.zeros((), dtype=torch.float64, device=edge.device)
        for part, owner in zip(edge.split(_READOUT_ROWS), graph.split(_READOUT_ROWS), strict=True):
            total = total + scatter(self.mlp(part), owner, dim=0, dim_size=parts, reduce="sum").double()
        count = torch.bincount(graph, minlength=parts).clamp(min=1)
        mean = total / count[:, None]
        if kinds is not None:
            mean = mean.view(num_graphs, self.num_kinds, -1).sum(dim=1)
        return mean.to(edge.dtype)


class GnnWithReadout(nn.Module):
    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        self.gnn = Gnn(config)
        self.readout = Readout(config)


class ReadoutHead(nn.Module):
    """Readout to embedding where a head follows: each unit standardised over NeRFs, then a linear map.

    Not in the paper, whose readout is the embedding. Means of ReLUs over all edges have a large part in common and differ by
    hundredths of their length, or less. The batch norms take the common part away: one for the NeRFs of all families together,
    as a batch of training mixes them, or one for each of `GmnConfig.readout_families`. What lies farther from the mean than
    `LIMIT` deviations, as NeRFs of an architecture that was never seen do, counts as so far.
    """

    LIMIT = 4.0

    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        self.families = len(config.readout_families)
        norms = [nn.BatchNorm1d(config.readout_units, eps=1e-10, affine=False) for _ in range(max(1, self.families))]
        self.norm = nn.ModuleList(norms) if self.families else norms[0]
        self.map = nn.Linear(config.readout_units, config.embedding_dim, bias=False)

    def forward(self, readouts: Tensor, families: Tensor | None = None) -> Tensor:
        """``(B, readout_units)`` and the place of each NeRF's family, int64 ``(B,)``, to ``(B, D)``."""
        readouts = readouts.to(self.map.weight.dtype)
        return self.map(self._standardised(readouts, families).clamp(-self.LIMIT, self.LIMIT))

    def _standardised(self, readouts: Tensor, families: Tensor | None) -> Tensor:
        if not isinstance(self.norm, nn.ModuleList):
            return self.norm(readouts)
        mean, variance = self._of_all()
        result = (readouts - mean) * (variance + 1e-10).rsqrt()
        for place, norm in enumerate(self.norm):
            rows = torch.zeros(0) if families is None else (families == place).nonzero()[:, 0]
            if len(rows) > 1 or (len(rows) and not self.training):  # one NeRF has no spread to learn
                result = result.index_copy(0, rows, norm(readouts[rows]))
        return result

    def _of_all(self) -> tuple[Tensor, Tensor]:
        """Means and variances ``(readout_units,)`` of all families' readouts together."""
        norms: list[Any] = list(self.norm) if isinstance(self.norm, nn.ModuleList) else [self.norm]
        means = torch.stack([norm.running_mean for norm in norms])
        variances = torch.stack([norm.running_var for norm in norms])
        return means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)

    @property
    def nothing(self) -> Tensor:
        """The readout ``(readout_units,)`` that gives zeros, of NeRFs that have no graph: the mean."""
        return self._of_all()[0]
