"""The Graph Meta-Network encoder: parameter graphs in, embeddings out.

Source: FORMATS.md section 4 (module names, concatenation order and quirks of the released encoder), the paper's section 3 and
Appendix B, and Lim et al., Graph Metanetworks (2024). Two paths run over the same parameters:

* `GmnEncoder.forward` takes any PyG graph and follows the formulas edge by edge: the specification;
* `GmnEncoder.embed` and `encode` take NeRFs and work on complete bipartite blocks (`dense.py`): the same numbers, faster.

Shapes: B graphs, N nodes, E edges, H hidden (128), D embedding (1024).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from ...files import StrPath, read_tensors, write_json, write_safetensors
from ...nerfs.record import Nerf, NerfBatch
from ..base import CONFIG_NAME, WEIGHTS_NAME
from .config import GmnConfig
from .dense import DenseEncoder

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data


# Edges whose readout the edge-list path sums in the encoder's own precision.
_READOUT_ROWS = 1024


class PreEncoder(nn.Module):
    """Raw graph features to H-dimensional ones (A): sines of scalars, tables of types, one projection each."""

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
    """One message-passing block (C). The last block of a network updates edges only, from nodes it does not normalise."""

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
    """Edge features to one embedding a graph (E): a linear layer, ReLU, mean over the graph's edges."""

    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(config.hidden_dim, config.readout_units), nn.ReLU())

    def forward(self, edge: Tensor, graph: Tensor, num_graphs: int) -> Tensor:
        # Over tens of thousands of edges a float32 running sum loses four digits: short sums are added up in float64.
        total = torch.zeros((), dtype=torch.float64, device=edge.device)
        for part, owner in zip(edge.split(_READOUT_ROWS), graph.split(_READOUT_ROWS), strict=True):
            total = total + scatter(self.mlp(part), owner, dim=0, dim_size=num_graphs, reduce="sum").double()
        count = torch.bincount(graph, minlength=num_graphs).clamp(min=1)
        return (total / count[:, None]).to(edge.dtype)


class GnnWithReadout(nn.Module):
    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        self.gnn = Gnn(config)
        self.readout = Readout(config)


class Head(nn.Module):
    """Readout to embedding: a linear map in two factors, one set before training (`calibrate_head`), one learnt, and one length.

    Not in the paper, whose readout is the embedding. Means of ReLUs have a large part in common, which is what changes in the
    first thousands of steps. Whitened, they differ from the start. Embeddings get the length sqrt(D), else that of hash NeRFs
    would be several times that of MLPs.
    """

    def __init__(self, units: int, size: int) -> None:
        super().__init__()
        self.whitening = nn.Linear(units, size)
        self.mixing = nn.Linear(size, size, bias=False)
        nn.init.eye_(self.mixing.weight)

    def forward(self, readout: Tensor) -> Tensor:
        # Whitening takes a large common part away: in float64, so that rounding of it does not show.
        weight, bias = self.whitening.weight.double(), self.whitening.bias.double()
        mixed = self.mixing(nn.functional.linear(readout.double(), weight, bias).to(self.mixing.weight.dtype))
        return nn.functional.normalize(mixed, dim=-1) * mixed.shape[-1] ** 0.5


class GmnEncoder(nn.Module):
    """NeRF weights to an embedding, whatever the architecture of the NeRF.

    State-dict names and shapes are those of the released checkpoints, whose embeddings are non-negative: the readout ends in a
    ReLU. A configuration with `readout_dim` adds a `Head`, under ``head``.
    """

    def __init__(self, config: GmnConfig | None = None) -> None:
        super().__init__()
        self.config = config or GmnConfig()
        self.pre_encoder = PreEncoder(self.config)
        self.gnn_w_readout = GnnWithReadout(self.config)
        self.head: Head | None = None
        if self.config.readout_dim is not None:
            self.head = Head(self.config.readout_dim, self.config.embedding_dim)
        self._dense = DenseEncoder()

    @property
    def device(self) -> torch.device:
        return self.pre_encoder.x_proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.pre_encoder.x_proj.weight.dtype

    @property
    def embedding_dim(self) -> int:
        return self.config.embedding_dim

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
        readout = self.gnn_w_readout.readout(edge, node_graph[edge_index[0]], num_graphs)
        return self.of_readout(readout)

    def of_readout(self, readout: Tensor) -> Tensor:
        """The embeddings ``(B, D)`` of readouts ``(B, readout_units)``."""
        return readout if self.head is None else self.head(readout)

    def body(self) -> Iterator[nn.Parameter]:
        """All parameters but the learnt factor of the head."""
        yield from self.pre_encoder.parameters()
        yield from self.gnn_w_readout.parameters()
        if self.head is not None:
            yield from self.head.whitening.parameters()

    def embed(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None) -> Tensor:
        """Embed NeRFs of one architecture along the blocks of their graphs: the numbers of `forward`, without edge lists.

        Differentiable in the parameters of the encoder and in the NeRFs' tensors.

        Args:
            nerfs: stacked tensors on the device of the encoder.
            dtype: what the heavy products run in (`torch.bfloat16`); None for the encoder's own dtype.

        Returns:
            ``(B, D)``, float64 from a float64 encoder, float32 otherwise.
        """
        return self.of_readout(self.read_out(nerfs, dtype=dtype))

    def read_out(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None) -> Tensor:
        """What `embed` gives before the head, ``(B, readout_dim)``; the embedding itself where there is no head."""
        return self._dense(self, nerfs, dtype=dtype)

    @torch.no_grad()
    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """Embed NeRFs of any mix of architectures.

        Args:
            nerfs: the NeRFs, on any device.
            batch_size: how many of one architecture are stacked at a time.
            dtype: what the heavy products run in (`torch.bfloat16`); None for the encoder's own dtype.

        Returns:
            ``(len(nerfs), D)`` in the order given, on the device of the encoder, without gradient; float64 from a float64
            encoder, float32 otherwise.
        """
        return self.of_readout(self.read_outs(nerfs, batch_size=batch_size, dtype=dtype))

    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """`encode` as one token a NeRF, ``(len(nerfs), 1, D)``."""
        return self.encode(nerfs, batch_size=batch_size, dtype=dtype)[:, None]

    @torch.no_grad()
    def read_outs(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """What `encode` gives before the head, ``(len(nerfs), readout_dim)``; the embeddings where there is none."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        nerfs = [nerfs] if isinstance(nerfs, Nerf) else list(nerfs)
        by_architecture: dict[Any, list[int]] = {}
        for i, nerf in enumerate(nerfs):
            if not isinstance(nerf, Nerf):
                raise TypeError(
                    f"item {i} is a {type(nerf).__name__}; encode takes Nerf records (load_nerf reads files)"
                )
            by_architecture.setdefault(nerf.architecture, []).append(i)
        result_dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        readouts = torch.empty(len(nerfs), self.config.readout_units, dtype=result_dtype, device=self.device)
        for indices in by_architecture.values():
            for start in range(0, len(indices), batch_size):
                chunk = indices[start : start + batch_size]
                batch = NerfBatch.stack(nerfs[i].to(self.device) for i in chunk)
                readouts[torch.tensor(chunk, device=self.device)] = self.read_out(batch, dtype=dtype)
        return readouts

    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: equal for encoders that give equal embeddings, on any device."""
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name, tensor in self.state_dict().items():
            digest.update(f"{name} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(self, path: StrPath) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a directory, atomically file by file."""
        path = Path(path)
        write_safetensors(self.state_dict(), path / WEIGHTS_NAME, metadata={"format": "pt"})
        write_json(self.config.to_dict(), path / CONFIG_NAME)

    @classmethod
    def from_pretrained(cls, path: StrPath, *, config: GmnConfig | None = None) -> GmnEncoder:
        """Read an encoder, in evaluation mode on the CPU.

        Args:
            path: a directory of `save_pretrained`, the name of such a repository on the Hugging Face hub, or a released
                checkpoint file (`.pt` with the key ``encoder``).
            config: sizes and layout of a checkpoint file that is not of the released sizes; sizes are otherwise read off the
                weights.

        Raises:
            FileNotFoundError: nothing there.
            ValueError: not an encoder, or one whose weights contradict its configuration.
        """
        path = Path(path)
        if path.is_file():
            content, _ = read_tensors(path)
            state = content.get("encoder", content)
            source = path
        else:
            directory = path if path.is_dir() else _download(path)
            if not (directory / CONFIG_NAME).is_file() or not (directory / WEIGHTS_NAME).is_file():
                raise FileNotFoundError(
                    f"{path}: holds no encoder; expected {CONFIG_NAME} and {WEIGHTS_NAME}, or a checkpoint file instead"
                )
            source = directory / WEIGHTS_NAME
            config = config or _read_config(directory / CONFIG_NAME)
            state, _ = read_tensors(source)
        try:
            encoder = cls(config or _config_of_state(state))
            _load_state(encoder, state)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{source}: {error}") from error
        return encoder.eval()


def _download(path: Path) -> Path:
    """A hub repository as a local directory, if `path` can be the name of one."""
    if path.is_absolute() or len(path.parts) > 2 or str(path).startswith("."):
        raise FileNotFoundError(f"{path}: no such file or directory")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path), allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{path}: no such file or directory, and no such repository within reach on the hub"
        ) from error


def _read_config(path: Path) -> GmnConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"holds a {type(values).__name__}; expected an object")
        return GmnConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _config_of_state(state: Mapping[str, Any]) -> GmnConfig:
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
        keys = (
            ", ".join(repr(str(key)) for key in list(state)[:4]) if isinstance(state, Mapping) else type(state).__name__
        )
        raise ValueError(
            f"holds no GMN encoder; found {keys or 'nothing'}; expected pre_encoder.* and gnn_w_readout.*"
        ) from error


def _load_state(encoder: GmnEncoder, state: Mapping[str, Any]) -> None:
    expected = encoder.state_dict()
    problems: Iterable[str] = (
        [f"tensor {key!r} is missing" for key in expected if key not in state]
        + [f"tensor {key!r} is unknown" for key in state if key not in expected]
        + [
            f"tensor {key!r} has shape {list(getattr(state[key], 'shape', ()))} instead of {list(tensor.shape)}"
            for key, tensor in expected.items()
            if key in state and getattr(state[key], "shape", None) != tensor.shape
        ]
        + [
            f"tensor {key!r} has NaN or infinite values"
            for key in expected
            if isinstance(state.get(key), Tensor) and not bool(torch.isfinite(state[key]).all())
        ]
    )
    if problems := list(problems):
        more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise ValueError(f"does not fit a GMN encoder of this configuration: {problems[0]}{more}")
    encoder.load_state_dict(dict(state))
