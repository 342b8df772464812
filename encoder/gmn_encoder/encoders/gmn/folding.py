"""The encoder's weights as the dense path multiplies with them.

Linear maps in a row become one (projection and embedding; final layer and readout), as do the affine parts of layer norms. Edge
features are only ever read through layer norms, so every map that writes them is centred beforehand: the mean that a layer norm
would subtract is zero, and what is left of it is one division per edge. All in float64, then cast.

Shapes: H hidden (128), D embedding (1024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .modules import GnnWithReadout, PreEncoder


@dataclass(frozen=True, eq=False)
class FoldedLayer:
    """One message-passing layer: ``(H, H)`` matrices that multiply from the right, ``(H,)`` biases.

    Messages and node updates are None in the last layer. Matrices for edges stand in the dtype of the heavy products.
    """

    edge: Tensor
    edge_source: Tensor
    edge_target: Tensor
    edge_bias: Tensor
    edge_out: Tensor
    edge_out_bias: Tensor
    message: Tensor | None = None
    message_source: Tensor | None = None
    message_bias: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FoldedWeights:
    """The encoder's weights as the walk uses them."""

    layers: tuple[FoldedLayer, ...]
    value_frequency: Tensor
    value_phase: Tensor
    value: Tensor
    readout: Tensor
    readout_bias: Tensor
    eps: float


def _matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A folded float64 weight ``(out, in)`` as a contiguous right-hand factor ``(in, out)``."""
    return weight.T.to(dtype).contiguous()


def fold(pre_encoder: PreEncoder, network: GnnWithReadout, dtype: torch.dtype) -> FoldedWeights:
    """Fold consecutive linear maps, layer-norm affines and centring; matrices for edges are cast to `dtype`."""
    gnn: Any = network.gnn
    pre: Any = pre_encoder
    hidden = pre.x_proj.out_features
    node_dtype = torch.promote_types(pre.x_proj.weight.dtype, torch.float32)

    def double(tensor: Tensor) -> Tensor:
        return tensor.double()

    def centred(tensor: Tensor) -> Tensor:
        return tensor - tensor.mean(dim=0, keepdim=True)

    layers = []
    for block in gnn.convs:
        linear = block.conv.edge_model.edge_mlp[0]
        source, target, edge = double(linear.weight).split(hidden, dim=1)
        out = block.edge_mlp[1]
        layer: dict[str, Any] = {
            "edge": _matrix(edge * double(block.edge_norm.weight), dtype),
            "edge_source": _matrix(source, node_dtype),
            "edge_target": _matrix(target, node_dtype),
            "edge_bias": (double(linear.bias) + edge @ double(block.edge_norm.bias)).to(node_dtype),
            "edge_out": _matrix(centred(double(out.weight)), dtype),
            "edge_out_bias": centred(double(out.bias)).to(dtype),
        }
        if block.update_nodes:
            message = block.conv.node_model.node_mlp_1[0]
            node, update = double(message.weight).split(hidden, dim=1)
            layer["message"] = _matrix(update, dtype)
            layer["message_source"] = _matrix(node, node_dtype)
            layer["message_bias"] = message.bias.to(node_dtype)
        layers.append(FoldedLayer(**layer))
    norm, final = gnn.final_layer
    readout: Any = network.readout.mlp[0]
    last = double(readout.weight) @ double(final.weight)
    last_bias = double(readout.weight) @ (double(final.weight) @ double(norm.bias) + double(final.bias)) + double(
        readout.bias
    )
    value = double(gnn.edge_embed.weight) @ double(pre.edge_attr_proj.weight[:, :hidden])
    return FoldedWeights(
        layers=tuple(layers),
        value_frequency=pre.weight_encoder[0].weight[:, 0].to(node_dtype),
        value_phase=pre.weight_encoder[0].bias.to(node_dtype),
        value=_matrix(centred(value), dtype),
        readout=_matrix(last * double(norm.weight), dtype),
        readout_bias=last_bias.to(dtype),
        eps=norm.eps,
    )
