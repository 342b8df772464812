"""The projector: embeddings of NeRFs to tokens of a language model (the paper's section 4,
docs/released_format.md#llana-checkpoint)."""

from __future__ import annotations

import itertools

from torch import nn
from transformers.activations import ACT2FN

from .configuration import LlanaGmnConfig


class NerfProjector(nn.Sequential):
    """Each vector ``(..., D)`` of a NeRF to tokens ``(..., T / V * H)``; layer numbers as in LLaNA's `vec_proj`."""

    def __init__(self, config: LlanaGmnConfig) -> None:
        tokens = config.tokens_per_nerf // config.vectors_per_nerf
        sizes = [config.embedding_dim, *config.projector_hidden_sizes, tokens * config.token_dim]
        layers: list[nn.Module] = []
        for width, out in itertools.pairwise(sizes):
            layers += [nn.Linear(width, out), ACT2FN[config.projector_hidden_act]]
        super().__init__(*layers[:-1])
