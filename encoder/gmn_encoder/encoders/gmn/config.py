"""Configuration of the Graph Meta-Network encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from ...files import brief
from ...nerfs.blocks import GraphLayout
from ..config import MAX_LAYERS, MAX_WIDTH, SavedConfig


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
    """

    model_type: ClassVar[str] = "gmn_encoder"

    hidden_dim: int = 128
    embedding_dim: int = 1024
    num_layers: int = 4
    num_node_types: int = 18
    num_edge_types: int = 15
    layer_norm_eps: float = 1e-5
    layout: GraphLayout = "released"
    readout_dim: int | None = None

    def __post_init__(self) -> None:
        smallest = {
            "hidden_dim": 1,
            "embedding_dim": 1,
            "num_layers": 1,
            "num_node_types": type(self).num_node_types,  # the released tables, whose rows the paper's families name
            "num_edge_types": type(self).num_edge_types,
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
        if not isinstance(self.layer_norm_eps, int | float) or not 0 < self.layer_norm_eps < 1e6:
            raise ValueError(f"GmnConfig.layer_norm_eps must be positive, got {brief(self.layer_norm_eps)}")
        if self.layout not in get_args(GraphLayout):
            raise ValueError(
                f"GmnConfig.layout must be one of {', '.join(get_args(GraphLayout))}, got {brief(self.layout)}"
            )

    @property
    def readout_units(self) -> int:
        """What the graph network's readout gives: `readout_dim`, or the embedding itself."""
        return self.readout_dim or self.embedding_dim

    @property
    def whitened(self) -> bool:
        """Whether a head whitens the embeddings."""
        return self.readout_dim is not None

    def to_dict(self) -> dict[str, Any]:
        """Its fields, without a `readout_dim` of None: the form, and so the fingerprint, of encoders without a head."""
        values = super().to_dict()
        if self.readout_dim is None:
            del values["readout_dim"]
        return values
