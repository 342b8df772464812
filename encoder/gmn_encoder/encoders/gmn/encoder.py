"""The Graph Meta-Network encoder: parameter graphs in, embeddings out.

Source: docs/released_format.md#encoder (the released encoder), the paper's section 3 and Appendix B, and Lim et al., Graph
Metanetworks (2024). Two paths run over the same modules:

* `GmnEncoder.forward` takes any PyG graph and follows the formulas edge by edge: the specification;
* `GmnEncoder.embed` and `encode` take NeRFs and work on complete bipartite blocks (`dense.py`): the same numbers, faster.

Both end in readouts, means over a graph's edges, which are the embeddings of the released encoder. With `GmnConfig.probes` the
encoder has a second sense (`probes.py`): it asks the field at points that all NeRFs share, and adds what the graph network reads.

Shapes: B graphs, N nodes, E edges, D embedding (1024).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nerfs.probing import visible_field
from ...nerfs.record import Nerf, NerfBatch
from ..module import EncoderModule
from .config import GmnConfig
from .dense import DenseReadout
from .graph import check_graph
from .modules import GnnWithReadout, PreEncoder, ReadoutHead
from .probes import ProbeNetwork

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data


@dataclass(frozen=True, eq=False)
class Reading:
    """What an encoder took from B NeRFs.

    Attributes:
        readouts: of the graph network ``(B, readout_units)``; None: no graph was read.
        fields: of the probes ``(B, K, 4)``, see `nerfs.probing.visible_field`; None: no field was asked.
        families: int64 ``(B,)``, places in `GmnConfig.readout_families`, -1 for others; None without a graph network.
    """

    readouts: Tensor | None
    fields: Tensor | None
    families: Tensor | None = None

    @classmethod
    def join(cls, readings: Sequence[Reading]) -> Reading:
        """The NeRFs of several readings of one encoder in one."""
        parts = zip(*((each.readouts, each.fields, each.families) for each in readings), strict=True)
        return cls(*(None if any(part is None for part in each) else torch.cat(each) for each in parts))

    def __getitem__(self, rows: Tensor) -> Reading:
        parts = (self.readouts, self.fields, self.families)
        return Reading(*(None if part is None else part[rows] for part in parts))


class GmnEncoder(EncoderModule):
    """NeRF weights to an embedding, whatever the architecture of the NeRF.

    State-dict names and shapes are those of the released checkpoints, whose embeddings are non-negative: the readout ends in a
    ReLU. A configuration with `readout_dim` or `probes` adds a `ReadoutHead`, under ``head``, and the latter a `ProbeNetwork`,
    under ``probes``; these embeddings have the length sqrt(D).
    """

    config_class = GmnConfig
    config: GmnConfig

    def __init__(self, config: GmnConfig | None = None) -> None:
        super().__init__(config or GmnConfig())
        if self.config.graph:
            self.pre_encoder = PreEncoder(self.config)
            self.gnn_w_readout = GnnWithReadout(self.config)
        self.head = ReadoutHead(self.config) if self.config.has_head else None
        self.probes: ProbeNetwork | None = None
        if self.config.probes:
            self.probes = ProbeNetwork(self.config)
            if self.head is not None:
                # What the graph network adds to the probes is multiplied by it: it starts at zero, so that it can only help.
                self.gate = nn.Parameter(torch.zeros(()))
        self._dense = DenseReadout()

    @property
    def executes_fields(self) -> bool:
        """Whether the encoder also asks the field, which executes the NeRF; an encoder without probes reads weights alone."""
        return self.probes is not None

    @property
    def probe_points(self) -> Tensor | None:
        """Where the field is asked, float32 world coordinates ``(K, 3)``; None without probes."""
        return None if self.probes is None else self.probes.points

    def moved(self, linear: Tensor, offset: Tensor) -> GmnEncoder:
        """A copy that says of a NeRF what this one says of the object elsewhere: it asks at other points.

        What it embeds shows at x what the NeRF shows at ``linear x + offset``, exactly. Weights cannot be moved: what the graph
        network adds stays that of the NeRF where it is.

        Args:
            linear: ``(3, 3)``.
            offset: ``(3,)`` world units.

        Raises:
            ValueError: an encoder without probes, which reads weights alone.
        """
        if self.probes is None:
            raise ValueError(
                "this encoder reads weights alone, which cannot be moved; expected one that asks the field"
            )
        other = copy.deepcopy(self)
        cast(ProbeNetwork, other.probes).ask_at(self.probes.points @ linear.to(offset).T + offset)
        return other

    def forward(self, graph: Data | Batch) -> Tensor:
        """Embed parameter graphs along their edge lists.

        Args:
            graph: PyG `Data` or `Batch` with ``x (N, 3)``, ``edge_index (2, E)`` and ``edge_attr (E, 6)`` as
                ``parameter_graph(nerf, **encoder.config.graph_options)`` makes them; any graph with these features will do, and
                a batch may mix architectures. An encoder with probes reads ``probe_values (B, K, 4)`` too, which
                ``parameter_graph(nerf, probes=encoder.probe_points, ...)`` adds.

        Returns:
            ``(B, D)`` in the dtype of the encoder, differentiable. A graph without edges has a readout of zeros.

        Raises:
            ValueError: a graph of other options (``graph.options``) than the encoder's, or without the answers of the field.
        """
        readouts = self._edge_list_readouts(graph)
        families = None if readouts is None else self._families(getattr(graph, "family", ""), readouts)
        return self.combine(Reading(readouts, self._attached_fields(graph), families))

    def _families(self, names: str | Sequence[str], readouts: Tensor) -> Tensor:
        known = self.config.readout_families
        places = [known.index(name) if name in known else -1 for name in ([names] if isinstance(names, str) else names)]
        return torch.tensor(places, device=readouts.device).expand(len(readouts))

    def _edge_list_readouts(self, graph: Data | Batch) -> Tensor | None:
        if not self.config.graph:
            return None
        self._check_graph(graph)
        x, edge_index = graph.x, graph.edge_index
        node_graph = getattr(graph, "batch", None)
        if node_graph is None:
            node_graph = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        num_graphs = getattr(graph, "num_graphs", 1)
        edge = self.gnn_w_readout.gnn(self.pre_encoder.nodes(x), edge_index, self.pre_encoder.edges(graph.edge_attr))
        kinds = graph.edge_attr[:, 2].long() if self.config.readout_per_kind else None
        return self.gnn_w_readout.readout(edge, node_graph[edge_index[0]], num_graphs, kinds)

    def _check_graph(self, graph: Data | Batch) -> None:
        """Raise `ValueError` for a graph that says other options than the configuration's."""
        found = getattr(graph, "options", "")
        wanted = ", ".join(name for name in self.config.GRAPH_OPTIONS if getattr(self.config, name))
        for each in [found] if isinstance(found, str) else found:
            if each != wanted:
                raise ValueError(
                    f"the graph was made with {each or 'no options'}, the encoder reads graphs with {wanted or 'none'}; "
                    "make it by parameter_graph(nerf, **encoder.config.graph_options)"
                )

    def _attached_fields(self, graph: Data | Batch) -> Tensor | None:
        if self.probes is None:
            return None
        fields = getattr(graph, "probe_values", None)
        count = len(self.probes.places)
        if fields is None or tuple(fields.shape[1:]) != (count, 4):
            found = "no probe_values" if fields is None else f"probe_values of shape {list(fields.shape)}"
            raise ValueError(
                f"the graph has {found}; this encoder also asks the field at {count} points: "
                "make it by parameter_graph(nerf, probes=encoder.probe_points)"
            )
        return fields

    def read(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None, fields: Tensor | None = None) -> Reading:
        """What the encoder takes from NeRFs of one architecture, along the blocks of their graphs and at its points.

        Differentiable in the parameters of the encoder and, through the graph, in the NeRFs' tensors; the field is asked without
        gradient.

        Args:
            nerfs: stacked tensors on the device of the encoder.
            dtype: dtype of the large matrix products (`torch.bfloat16`); None for the encoder's own.
            fields: answers ``(B, K, 4)`` at `probe_points` where they are known, such as those of objects that were moved; None:
                the fields are asked.

        Raises:
            FieldError: a field that is not finite.
        """
        readouts = None
        if self.probes is not None and self.head is not None and not nerfs.architecture.has_graph:
            readouts = self.head.nothing.expand(len(nerfs), -1)
        elif self.config.graph:
            readouts = self._dense(self.pre_encoder, self.gnn_w_readout, nerfs, config=self.config, dtype=dtype)
        if self.probes is not None and fields is None:
            fields = visible_field(nerfs, self.probes.points)
        family = nerfs.architecture.family if nerfs.architecture.has_graph else ""
        families = None if readouts is None else self._families(family, readouts)
        return Reading(readouts, fields, families)

    def combine(self, reading: Reading) -> Tensor:
        """The embeddings ``(B, D)`` of what was read. NeRFs without a graph have what the probes say alone."""
        readouts, fields = reading.readouts, reading.fields
        if self.head is None and readouts is not None:
            return readouts
        if self.probes is not None and fields is not None:
            embedding = self.probes(fields)
            if self.head is not None and readouts is not None:
                embedding = embedding + self.gate * self.head(readouts, reading.families)
        elif self.head is not None and readouts is not None:
            embedding = self.head(readouts, reading.families)
        else:
            raise ValueError("nothing was read of the NeRFs; expected readouts of their graphs, or fields")
        return F.normalize(embedding, dim=-1) * embedding.shape[-1] ** 0.5

    def combine_tokens(self, reading: Reading) -> Tensor:
        """The tokens ``(B, N, D)`` of what was read: the embedding and, with probes, one for each cell of the grid."""
        embedding = self.combine(reading)[:, None]
        if self.probes is None or reading.fields is None or not self.probes.grid:
            return embedding
        return torch.cat([embedding, self.probes.tokens(reading.fields)], dim=1)

    def embed(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None) -> Tensor:
        """Embed NeRFs of one architecture: the numbers of `forward`, without edge lists. Arguments and errors as of `read`.

        Returns:
            ``(B, D)``, float64 from a float64 encoder, float32 otherwise.
        """
        return self.combine(self.read(nerfs, dtype=dtype))

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

        Raises:
            ValueError: a NeRF whose field is not finite somewhere, by an encoder with probes.
        """
        return self._encode(self.combine, nerfs, (self.embedding_dim,), batch_size, dtype)

    def check_nerf(self, nerf: Nerf) -> None:
        """Raise `ValueError` for a NeRF without the parameter graph that is read, or with one too large (`graph.MAX_EDGES`)."""
        if not self.config.graph or (self.probes is not None and not nerf.architecture.has_graph):
            return
        try:
            check_graph(nerf.architecture)
        except ValueError as error:
            raise ValueError(f"{nerf.name}: {error}") from error

    @torch.no_grad()
    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """`encode` as tokens ``(len(nerfs), N, D)``: the embedding first, then, with probes, one for each cell of the grid."""
        shape = (self.config.num_tokens, self.embedding_dim)
        return self._encode(self.combine_tokens, nerfs, shape, batch_size, dtype)

    def _encode(
        self,
        combine: Callable[[Reading], Tensor],
        nerfs: Sequence[Nerf],
        shape: tuple[int, ...],
        batch_size: int,
        dtype: torch.dtype | None,
    ) -> Tensor:
        def step(batch: NerfBatch) -> Tensor:
            return combine(self.read(batch, dtype=dtype))

        return self.in_batches(step, nerfs, shape=shape, batch_size=batch_size)

    def graph_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the graph network."""
        if self.config.graph:
            yield from self.pre_encoder.parameters()
            yield from self.gnn_w_readout.parameters()

    @classmethod
    def config_of_state(cls, state: Mapping[str, Any]) -> GmnConfig:
        """Sizes read off a state dict; layout and options cannot be, and are the released ones."""
        try:
            sizes: dict[str, Any] = {}
            if "probes.places" in state:
                sizes["probes"] = len(state["probes.places"])
                sizes["probe_dim"], sizes["embedding_dim"] = state["probes.last.weight"].T.shape
                cells = state.get("probes.cell_weight")
                sizes["token_grid"] = 0 if cells is None else round(len(cells) ** (1 / 3))
                sizes["graph"] = "pre_encoder.x_proj.weight" in state
            if not sizes.get("graph", True):
                return GmnConfig(**sizes)
            hidden, units = (
                state[f"{name}.weight"].shape[0] for name in ("pre_encoder.x_proj", "gnn_w_readout.readout.mlp.0")
            )
            head = state.get("head.map.weight")
            return GmnConfig(
                **{"embedding_dim": units if head is None else head.shape[0], **sizes},
                hidden_dim=hidden,
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
