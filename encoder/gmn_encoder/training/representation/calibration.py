"""A start that depends on the data: what a fresh encoder and decoder make of examples is given room to differ.

Embeddings are means over all edges of a NeRF, so those of fresh encoders are nearly the same for all NeRFs (within a family they
differ by a thousandth of their length), and training takes long to get away from there. Only initial weights change here, after
the example of Krähenbühl et al., "Data-dependent Initializations of Convolutional Neural Networks" (2016).

Shapes: B NeRFs, E edges, H hidden, D embedding, Q groups of edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...embeddings.whitening import whitening_within_groups
from ...encoders.decoder import NerfDecoder
from ...encoders.gmn.encoder import GmnEncoder
from ...encoders.gmn.graph import parameter_graph
from ...nerfs.record import Nerf
from ...seeds import generator_for

_MOST_EDGES = 4096  # edges of a NeRF that are sampled
_FLOOR = 0.03  # spreads below this share of the largest one count as that much
_HEAD_FLOOR = 0.1
_MOST_GAIN = 100.0  # of a decoder's weights


@torch.no_grad()
def calibrate_readout(encoder: GmnEncoder, nerfs: Sequence[Nerf], *, active: float, seed: int = 0) -> None:
    """Make each unit of the embedding count the unusual edges along a direction of its own.

    Directions are those in which the edges of one layer of one family differ, not those in which layers and families do, each
    with the same spread; a unit is on at the share `active` of the edges, and one on average. Embeddings of one family then
    differ by some hundredths of their length.

    Args:
        encoder: the encoder whose readout is replaced; the rest decides what edges look like.
        nerfs: examples of all families that will be trained on.
        active: share of the edges at which a unit is on, in 0..1.
        seed: seed of the directions.
    """
    features, groups = _edge_features(encoder, nerfs, seed)
    centre, whiten = whitening_within_groups(features, groups, floor=_FLOOR)
    layer = encoder.gnn_w_readout.readout.mlp[0]
    size = (encoder.config.readout_units, len(whiten))
    weight = torch.randn(size, generator=generator_for(seed, "calibration directions")).to(features) @ whiten
    seen = (features - centre) @ weight.T
    bias = -torch.stack([column.quantile(1 - active) for column in seen[:: len(seen) // 100_000 + 1].T])
    mean = (seen + bias).relu().mean(dim=0).clamp(min=1e-6)
    layer.get_parameter("weight").copy_(weight / mean[:, None])
    layer.get_parameter("bias").copy_((bias - weight @ centre) / mean)


@torch.no_grad()
def calibrate_head(encoder: GmnEncoder, readouts: Tensor, groups: Sequence[str]) -> None:
    """Make the head whiten what tells NeRFs of one family apart: the widest directions, each with a deviation of one.

    Args:
        encoder: an encoder with a head, which is replaced.
        readouts: the encoder's readouts ``(N, readout_dim)`` of examples of all families that will be trained on; many more
            than the embedding has units, best.
        groups: the family of each example.

    Raises:
        ValueError: an encoder without a head, or one whose readout has too few units beyond what tells families apart.
    """
    if encoder.head is None:
        raise ValueError("the encoder has no head to calibrate; set readout_dim")
    size = encoder.config.embedding_dim
    centre, whiten = whitening_within_groups(readouts.double(), groups, floor=_HEAD_FLOOR, equal_groups=True)
    if len(whiten) < size:
        raise ValueError(
            f"a readout of {readouts.shape[1]} units has {len(whiten)} directions in which NeRFs of one family differ; "
            f"expected at least embedding_dim = {size}: set a larger readout_dim"
        )
    widest = whiten[-size:]
    encoder.head.whitening.weight.copy_(widest)
    encoder.head.whitening.bias.copy_(-widest @ centre)
    torch.nn.init.eye_(encoder.head.mixing.weight)


def _edge_features(encoder: GmnEncoder, nerfs: Sequence[Nerf], seed: int) -> tuple[Tensor, list[tuple[str, float]]]:
    """``(E, H)`` features of some edges of all NeRFs before the readout, and each one's family and layer."""
    features: list[Tensor] = []
    groups: list[tuple[str, float]] = []
    for number, nerf in enumerate(nerfs):
        graph = parameter_graph(nerf, **encoder.config.graph_options).to(encoder.device)
        nodes, edges = encoder.pre_encoder.nodes(graph.x), encoder.pre_encoder.edges(graph.edge_attr)
        found = encoder.gnn_w_readout.gnn(nodes, graph.edge_index, edges)
        generator = generator_for(seed, "calibration edges", number)
        chosen = torch.randperm(len(found), generator=generator)[:_MOST_EDGES].to(found.device)
        features.append(found[chosen])
        groups += [(nerf.family, layer) for layer in graph.edge_attr[chosen, 1].tolist()]
    return torch.cat(features), groups


@torch.no_grad()
def calibrate_decoder(decoder: NerfDecoder, embeddings: Tensor) -> None:
    """Fold mean and spread of embeddings ``(B, D)`` into the decoder's input layers: it sees what differs from the start."""
    mean, spread = embeddings.mean(dim=0), embeddings.std(dim=0, correction=0)
    gain = spread.clamp(min=1 / _MOST_GAIN).reciprocal()
    for layer in (decoder.in_layer, decoder.skip_proj):
        weight, bias = layer.get_parameter("0.weight"), layer.get_parameter("0.bias")
        weight[:, : len(gain)].mul_(gain)
        bias.sub_(weight[:, : len(gain)] @ mean)
