"""The Graph Meta-Network encoder: parameter graphs in, embeddings out.

Source: docs/released_format.md#encoder (the released encoder), the paper's section 3 and Appendix B, and Lim et al., Graph
Metanetworks (2024). Two paths run over the same modules:

* `GmnEncoder.forward` takes any PyG graph and follows the formulas edge by edge: the specification;
* `GmnEncoder.embed` and `encode` take NeRFs and work on complete bipartite blocks (`dense.py`): the same numbers, faster.

Both end in readouts, means over a graph's edges, which are the embeddings of an encoder without a head.

Shapes: B graphs, N nodes, E edges, D embedding (1024).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...nerfs.record import Nerf, NerfBatch
from ..module import EncoderModule
from .config import GmnConfig
from .dense import DenseReadout
from .graph import check_graph
from .modules import GnnWithReadout, Head, PreEncoder

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data


class GmnEncoder(EncoderModule):
    """NeRF weights to an embedding, whatever the architecture of the NeRF.

    State-dict names and shapes are those of the released checkpoints, whose embeddings are non-negative: the readout ends in a
    ReLU. A configuration with `readout_dim` adds a `Head`, under ``head``.
    """

    config_class = GmnConfig
    config: GmnConfig

    def __init__(self, config: GmnConfig | None = None) -> None:
        super().__init__(config or GmnConfig())
        self.pre_encoder = PreEncoder(self.config)
        self.gnn_w_readout = GnnWithReadout(self.config)
        self.head: Head | None = None
        if self.config.readout_dim is not None:
            self.head = Head(self.config.readout_dim, self.config.embedding_dim)
        self._dense = DenseReadout()

    def forward(self, graph: Data | Batch) -> Tensor:
        """Embed parameter graphs along their edge lists.

        Args:
            graph: PyG `Data` or `Batch` with ``x (N, 3)``, ``edge_index (2, E)`` and ``edge_attr (E, 6)`` as
                `parameter_graph` makes them; any graph with these features will do, and a batch may mix architectures.

        Returns:
            ``(B, D)`` in the dtype of the encoder, differentiable. A graph without edges embeds to zeros.
        """
        x, edge_index = graph.x, graph.edge_index
        node_graph = getattr(graph, "batch", None)
        if node_graph is None:
            node_graph = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        num_graphs = getattr(graph, "num_graphs", 1)
        edge = self.gnn_w_readout.gnn(self.pre_encoder.nodes(x), edge_index, self.pre_encoder.edges(graph.edge_attr))
        return self.apply_head(self.gnn_w_readout.readout(edge, node_graph[edge_index[0]], num_graphs))

    def embed(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None) -> Tensor:
        """Embed NeRFs of one architecture along the blocks of their graphs: the numbers of `forward`, without edge lists.

        Differentiable in the parameters of the encoder and in the NeRFs' tensors.

        Args:
            nerfs: stacked tensors on the device of the encoder.
            dtype: dtype of the large matrix products (`torch.bfloat16`); None for the encoder's own.

        Returns:
            ``(B, D)``, float64 from a float64 encoder, float32 otherwise.
        """
        return self.apply_head(self.embed_readouts(nerfs, dtype=dtype))

    def embed_readouts(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None) -> Tensor:
        """What `embed` gives before the head, ``(B, readout_units)``."""
        return self._dense(self.pre_encoder, self.gnn_w_readout, nerfs, layout=self.config.layout, dtype=dtype)

    @torch.no_grad()
    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """Embed NeRFs of any mix of architectures.

        Args:
            nerfs: the NeRFs, on any device.
            batch_size: NeRFs of one architecture that are stacked at a time.
            dtype: dtype of the large matrix products (`torch.bfloat16`); None for the encoder's own.

        Returns:
            ``(len(nerfs), D)`` in the order given, on the device of the encoder, without gradient; float64 from a float64
            encoder, float32 otherwise.
        """
        return self.apply_head(self.encode_readouts(nerfs, batch_size=batch_size, dtype=dtype))

    def check_nerf(self, nerf: Nerf) -> None:
        """Raise `ValueError` for a NeRF without a parameter graph, or with one that is too large (`graph.MAX_EDGES`)."""
        try:
            check_graph(nerf.architecture)
        except ValueError as error:
            raise ValueError(f"{nerf.name}: {error}") from error

    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """`encode` as one token a NeRF, ``(len(nerfs), 1, D)``."""
        return self.encode(nerfs, batch_size=batch_size, dtype=dtype)[:, None]

    def encode_readouts(
        self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None
    ) -> Tensor:
        """What `encode` gives before the head, ``(len(nerfs), readout_units)``."""
        step = functools.partial(self.embed_readouts, dtype=dtype)
        return self.in_batches(step, nerfs, shape=(self.config.readout_units,), batch_size=batch_size)

    def apply_head(self, readouts: Tensor) -> Tensor:
        """The embeddings ``(B, D)`` of readouts ``(B, readout_units)``: the same where there is no head."""
        return readouts if self.head is None else self.head(readouts)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters but the learnt factor of the head."""
        yield from self.pre_encoder.parameters()
        yield from self.gnn_w_readout.parameters()
        if self.head is not None:
            yield from self.head.whitening.parameters()

    @classmethod
    def config_of_state(cls, state: Mapping[str, Any]) -> GmnConfig:
        """Sizes read off a state dict; the layout cannot be, and is the released one."""
        try:
            hidden, units = (
                state[f"{name}.weight"].shape[0] for name in ("pre_encoder.x_proj", "gnn_w_readout.readout.mlp.0")
            )
            head = state.get("head.mixing.weight")
            return GmnConfig(
                hidden_dim=hidden,
                embedding_dim=units if head is None else head.shape[0],
                readout_dim=None if head is None else units,
                num_layers=sum(key.endswith(".edge_norm.weight") for key in state),
                num_node_types=state["pre_encoder.node_type_encoder.weight"].shape[0],
                num_edge_types=state["pre_encoder.edge_type_encoder.weight"].shape[0],
            )
        except (KeyError, AttributeError, TypeError, IndexError) as error:
            found = [repr(str(key)) for key in state][:4] if isinstance(state, Mapping) else [type(state).__name__]
            raise ValueError(
                f"holds no GMN encoder; found {', '.join(found) or 'nothing'}; expected pre_encoder.* and gnn_w_readout.*"
            ) from error
