"""nf2vec's encoder: the weights of an MLP NeRF, row by row, to an embedding. LLaNA-7B was trained on its embeddings.

Source: docs/released_format.md#nf2vec (the released encoder) and Zama Ramirez et al., Deep Learning on Object-centric 3D Neural
Fields (2024). A NeRF's weights are one long vector; with the output matrix filled up with zeros to W rows it is cut into rows of
W values, whatever matrix they belong to. Each row goes through the same layers, and the embedding is the maximum over the rows,
so NeRFs of any depth can be read, but of one width only.

What the sources leave open: the epsilon of the batch norms, taken to be torch's default (1e-5), and whether LLaNA's embeddings
were made in float32, as here.

Shapes: B NeRFs, P weights of one, W width of its layers (64), R rows, D embedding (1024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...nerfs.families import MlpArchitecture
from ...nerfs.network import MLP_KEY, OUTPUT_ROWS
from ...nerfs.record import Nerf, NerfBatch
from ..module import EncoderModule
from .config import Nf2vecConfig


class Nf2vecEncoder(EncoderModule):
    """MLP NeRFs of one width to embeddings.

    State-dict names and shapes are those of the released checkpoints. It stays in evaluation mode: nothing here trains it, and
    its batch norms use the saved statistics.
    """

    config_class = Nf2vecConfig
    config: Nf2vecConfig

    def __init__(self, config: Nf2vecConfig | None = None) -> None:
        super().__init__(config or Nf2vecConfig())
        layers: list[nn.Module] = []
        width = self.config.nerf_hidden_dim
        for units in self.config.hidden_dims:
            layers += [nn.Conv1d(width, units, 1), nn.BatchNorm1d(units), nn.ReLU()]
            width = units
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, self.config.embedding_dim, 1))
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def forward(self, params: Tensor) -> Tensor:
        """Embed flat weights.

        Args:
            params: ``mlp_base.params`` of B NeRFs of one architecture ``(B, P)``, in the dtype of the encoder; P is a multiple
                of W.

        Returns:
            ``(B, D)``, differentiable.
        """
        width = self.config.nerf_hidden_dim
        zeros = params.new_zeros(len(params), (width - OUTPUT_ROWS) * width)
        rows = torch.cat([params, zeros], dim=1).unflatten(1, (-1, width))
        return self.layers(rows.transpose(1, 2)).amax(dim=2)

    def check_nerf(self, nerf: Nerf) -> None:
        """Raise `ValueError` for a NeRF of another family or other sizes than the encoder's."""
        found = nerf.architecture
        width, octaves = self.config.nerf_hidden_dim, self.config.nerf_frequencies
        depth = found.hidden_layers if isinstance(found, MlpArchitecture) else 1
        if found != MlpArchitecture(hidden_layers=depth, hidden_dim=width, frequencies=octaves):
            raise ValueError(
                f"{nerf.name}: is a NeRF of the architecture {found.name}; nf2vec reads MLP NeRFs with layers of {width}, "
                f"{octaves} frequencies ({6 * octaves} inputs) and no biases only: embed it with a GMN encoder, or fit an MLP"
            )

    def embed(self, nerfs: NerfBatch, *, dtype: torch.dtype | None = None) -> Tensor:
        """`forward` of stacked NeRFs, ``(B, D)``; the products run in `dtype` where it is given."""
        params = nerfs.tensors[MLP_KEY].to(self.dtype)
        with torch.autocast(params.device.type, dtype=dtype, enabled=dtype not in (None, self.dtype)):
            return self(params)

    @torch.no_grad()
    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """Embed MLP NeRFs of the encoder's width.

        Args:
            nerfs: the NeRFs, on any device.
            batch_size: NeRFs of one depth that are stacked at a time.
            dtype: dtype of the matrix products (`torch.bfloat16`); None for the encoder's own.

        Returns:
            ``(len(nerfs), D)`` in the order given, on the device of the encoder, without gradient.

        Raises:
            ValueError: a NeRF of another family or width.
        """
        shape = (self.embedding_dim,)
        return self.in_batches(lambda batch: self.embed(batch, dtype=dtype), nerfs, shape=shape, batch_size=batch_size)

    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """`encode` as one token a NeRF, ``(len(nerfs), 1, D)``."""
        return self.encode(nerfs, batch_size=batch_size, dtype=dtype)[:, None]

    @classmethod
    def config_of_state(cls, state: Mapping[str, Any]) -> Nf2vecConfig:
        """Sizes read off a state dict; the frequencies of the NeRFs cannot be, and are the released data's."""
        last = 3 * sum(key.endswith(".running_mean") for key in state)
        try:
            shapes = [tuple(state[f"layers.{i}.weight"].shape) for i in range(0, last + 1, 3)]
        except (KeyError, AttributeError) as error:
            found = ", ".join(repr(str(key)) for key in list(state)[:4]) or "nothing"
            raise ValueError(
                f"holds no nf2vec encoder; found {found}; expected layers.0.weight to layers.12.bias"
            ) from error
        return Nf2vecConfig(
            nerf_hidden_dim=shapes[0][1],
            hidden_dims=tuple(shape[0] for shape in shapes[:-1]),
            embedding_dim=shapes[-1][0],
        )
