"""Configuration of the Graph Meta-Network encoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from ...files import brief
from ...nerfs.blocks import GraphLayout
from ..config import MAX_LAYERS, MAX_WIDTH, SavedConfig

_RELEASED = {
    "hidden_dim",
    "embedding_dim",
    "num_layers",
    "num_node_types",
    "num_edge_types",
    "layer_norm_eps",
    "layout",
}
"""The fields that every configuration is written with."""


@dataclass(frozen=True, kw_only=True)
class GmnConfig(SavedConfig):
    """Sizes of a `GmnEncoder`; the defaults are the released encoder's (docs/released_format.md#encoder).

    Attributes:
        hidden_dim: width of node and edge features.
        embedding_dim: size of the embedding.
        num_layers: message-passing blocks; the last one updates edges only.
        num_node_types: rows of the node type table.
        num_edge_types: rows of the edge type table.
        layer_norm_eps: epsilon of every layer norm.
        layout: positions in the parameter graph that the encoder was trained with, `"released"` or `"geometric"`.
        readout_dim: units of the readout where a head of `embedding_dim` outputs follows; None, as in the released encoder and
            the paper: the readout is the embedding.
        probes: points at which the encoder also asks the field, as many in each cell of the grid; 0, as in the released encoder
            and the paper: it reads weights alone.
        probe_dim: width of the network that reads the answers.
        token_grid: cells along an axis of the grid of local tokens; 0: no local tokens.
        token_pool: cells along an axis that share a token, the mean of theirs: with 2, a grid of 4 gives 8 tokens. It takes no
            training: a saved encoder may be given another one.
        graph: whether the graph network takes part; without it, the probes alone make the embedding.
        canonical: whether the graph is made of canonical weights (`nerfs.canonical`): of all weights with the same field, the
            embedding is that of one.
        standardised: whether values are divided by the spread that they have in any architecture: those of a layer by
            ``1 / sqrt(inputs)``, those of tables by 1.
        bounded_positions: whether layers, indices and positions are divided by the largest of the architecture, so that sizes
            never trained on stay in -1..1; the encoder then starts with frequencies for that range.
        readout_per_kind: whether the readout is the sum of means, one for each edge type, instead of one mean over all edges,
            most of which are tables' or planes'.
        readout_families: families of architectures whose readouts the head standardises each by itself, so that what is left of
            them tells NeRFs of a family apart; those of other families have the spread of all. None: all alike.
    """

    GRAPH_OPTIONS: ClassVar[tuple[str, ...]] = ("canonical", "standardised", "bounded_positions")
    """What `parameter_graph` has to know beside the layout."""
    OPTIONS: ClassVar[tuple[str, ...]] = (*GRAPH_OPTIONS, "readout_per_kind")
    """Changes to the released encoder without a weight of their own: a state dict does not tell them."""

    model_type: ClassVar[str] = "gmn_encoder"

    hidden_dim: int = 128
    embedding_dim: int = 1024
    num_layers: int = 4
    num_node_types: int = 18
    num_edge_types: int = 15
    layer_norm_eps: float = 1e-5
    layout: GraphLayout = "released"
    readout_dim: int | None = None
    probes: int = 0
    probe_dim: int = 512
    token_grid: int = 4
    token_pool: int = 1
    graph: bool = True
    canonical: bool = False
    standardised: bool = False
    bounded_positions: bool = False
    readout_per_kind: bool = False
    readout_families: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        families = self.readout_families
        if not isinstance(families, list | tuple) or not all(isinstance(name, str) for name in families):
            raise ValueError(f"GmnConfig.readout_families must be a list of names of families, got {brief(families)}")
        object.__setattr__(self, "readout_families", tuple(families))
        smallest = {
            "hidden_dim": 1,
            "embedding_dim": 1,
            "num_layers": 1,
            "num_node_types": type(self).num_node_types,  # the released tables, whose rows the paper's families name
            "num_edge_types": type(self).num_edge_types,
            "probes": 0,
            "probe_dim": 1,
            "token_grid": 0,
            "token_pool": 1,
        }
        for name, least in smallest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"GmnConfig.{name} must be an integer of at least {least}, got {brief(value)}")
            most = MAX_LAYERS if name == "num_layers" else MAX_WIDTH
            if value > most:
                raise ValueError(f"GmnConfig.{name} must be at most {most}, got {brief(value)}")
        if self.readout_dim is not None and (
            not isinstance(self.readout_dim, int) or not self.embedding_dim <= self.readout_dim <= MAX_WIDTH
        ):
            raise ValueError(
                f"GmnConfig.readout_dim must be None or an integer of at least embedding_dim = {self.embedding_dim}, "
                f"got {brief(self.readout_dim)}"
            )
        for name in self.OPTIONS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"GmnConfig.{name} must be true or false, got {brief(getattr(self, name))}")
        if not isinstance(self.layer_norm_eps, int | float) or not 0 < self.layer_norm_eps < 1e6:
            raise ValueError(f"GmnConfig.layer_norm_eps must be positive, got {brief(self.layer_norm_eps)}")
        if self.layout not in get_args(GraphLayout):
            raise ValueError(
                f"GmnConfig.layout must be one of {', '.join(get_args(GraphLayout))}, got {brief(self.layout)}"
            )

        self._check_probes()

    def _check_probes(self) -> None:
        if not isinstance(self.graph, bool):
            raise ValueError(f"GmnConfig.graph must be true or false, got {brief(self.graph)}")
        if not self.probes:
            if not self.graph:
                raise ValueError("GmnConfig.graph is false and probes is 0: nothing is read; set probes, such as 1024")
            return
        cells = max(self.token_grid, 1) ** 3
        if self.token_grid > 16:
            raise ValueError(f"GmnConfig.token_grid must be at most 16, got {brief(self.token_grid)}")
        if self.probes % cells or not max(16, 8 * cells) <= self.probes <= 1 << 17:
            raise ValueError(
                f"GmnConfig.probes must be a multiple of {cells} in {max(16, 8 * cells)}..{1 << 17}, as many points in each cell "
                f"of the grid, got {brief(self.probes)}"
            )
        if self.token_grid and self.token_grid % self.token_pool:
            raise ValueError(
                f"GmnConfig.token_pool must divide token_grid = {self.token_grid}, got {brief(self.token_pool)}"
            )

    @property
    def num_tokens(self) -> int:
        """Vectors that `encode_tokens` gives a NeRF: one for the whole and, with probes, one for each cell of the grid."""
        return 1 + (self.token_grid // self.token_pool) ** 3 if self.probes else 1

    @property
    def has_head(self) -> bool:
        """Whether a linear map follows the readout."""
        return self.graph and (self.readout_dim is not None or bool(self.probes))

    @property
    def readout_units(self) -> int:
        """What the graph network's readout gives: `readout_dim`, or the embedding itself."""
        return self.readout_dim or self.embedding_dim

    @property
    def whitened(self) -> bool:
        """Whether embeddings come standardised, so that what reads them need not see to that."""
        return self.has_head or bool(self.probes)

    @property
    def graph_options(self) -> dict[str, Any]:
        """What `parameter_graph` is to be called with."""
        return {"layout": self.layout, **{name: getattr(self, name) for name in self.GRAPH_OPTIONS}}

    def to_dict(self) -> dict[str, Any]:
        """Its fields, without those that the released encoder does not have and that are at their defaults.

        So the form, and with it the fingerprint, of an encoder stays what it was when a field is added.
        """
        kept = {f.name for f in dataclasses.fields(self) if f.name in _RELEASED or getattr(self, f.name) != f.default}
        return {name: value for name, value in super().to_dict().items() if name in kept or name == "model_type"}
