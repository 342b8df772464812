"""The projector: embeddings of NeRFs to tokens of a language model (the paper's section 4,
docs/released_format.md#llana-checkpoint)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from .configuration import LlanaGmnConfig


def of_one_length(vectors: Tensor) -> Tensor:
    """The vectors of NeRFs ``(..., V, D)`` at a root mean square of one each; float32 at least.

    One projector reads them all. A global vector ten times as long as the local ones would be all that it sees: in a trial with a
    tiny model, local tokens at 0.075 beside a global one at 1 were ignored, and learnt at once at equal lengths.
    """
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return F.rms_norm(vectors, vectors.shape[-1:], eps=1e-12)


class NerfProjector(nn.Sequential):
    """Each vector ``(..., D)`` of a NeRF to tokens ``(..., T / V * H)``; layer numbers as in LLaNA's `vec_proj`."""

    def __init__(self, config: LlanaGmnConfig) -> None:
        tokens = config.tokens_per_nerf // config.vectors_per_nerf
        sizes = [config.embedding_dim, *config.projector_hidden_sizes, tokens * config.token_dim]
        layers: list[nn.Module] = []
        for width, out in itertools.pairwise(sizes):
            layers += [nn.Linear(width, out), ACT2FN[config.projector_hidden_act]]
        super().__init__(*layers[:-1])
