"""The SANE encoder: token sequences of NeRFs to latents, back to tokens, to an embedding, and to the rotation between two NeRFs.

Sources: Schürholt et al., "Towards Scalable and Versatile Weight Space Learning" (ICML 2024), taken to hash NeRFs with
[POS] tokens that carry the pose. The position of a point token is a linear map of its place and a table of its number; that of
network and pose tokens is a table of their number, and of the matrix. All points are the same for all NeRFs: a position says
nothing of which NeRF it is.

Shapes: B NeRFs, C tokens, P of them of the pose, D latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nerfs.record import Nerf, NerfBatch
from ...pose.rotations import matrix_of
from ..module import EncoderModule
from ..tokens.lattice import lattice_points
from ..tokens.rows import row_tokens
from ..tokens.sequence import KINDS, NETWORK, POINT, POSE, Tokens
from ..tokens.values import value_tokens
from .config import SaneConfig
from .heads import AttentionPool, AttentionRotation, MomentsRotation

_MAX_MATRICES = 64


@dataclass(frozen=True, eq=False)
class View:
    """NeRFs of one architecture as an encoder saw them: their tokens, and latents ``(B, C, D)``."""

    tokens: Tokens
    latents: Tensor

    @property
    def content(self) -> Tensor:
        return self.latents[:, self.tokens.kinds != POSE]

    @property
    def pose(self) -> Tensor:
        return self.latents[:, self.tokens.kinds == POSE]


class PositionCode(nn.Module):
    """Positions of tokens ``(C, width)``."""

    def __init__(self, config: SaneConfig) -> None:
        super().__init__()
        self.place = nn.Linear(3, config.width, bias=False)
        counts = {POINT: config.points, NETWORK: config.network_tokens, POSE: config.pose_tokens}
        self.number = nn.ModuleList(nn.Embedding(counts[kind], config.width) for kind in range(len(KINDS)))
        self.layer = nn.Embedding(_MAX_MATRICES, config.width)
        for table in (*self.number, self.layer):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: Tokens) -> Tensor:
        code = self.place(tokens.places.to(self.place.weight.dtype)).to(self.layer.weight.dtype)
        for kind, table in enumerate(self.number):
            chosen = (tokens.kinds == kind).nonzero()[:, 0]
            found = table(tokens.numbers[chosen])
            if kind == NETWORK:
                found = found + self.layer(tokens.layers[chosen])
            code = code.index_add(0, chosen, found)
        return code


class SaneEncoder(EncoderModule):
    """NeRFs to latents, embeddings and rotations."""

    config_class = SaneConfig
    config: SaneConfig
    points: Tensor

    def __init__(self, config: SaneConfig | None = None) -> None:
        super().__init__(config or SaneConfig())
        config, width = self.config, self.config.width
        self.register_buffer("points", lattice_points(config.points, config.lattice))
        self.into = nn.ModuleList(nn.Linear(config.token_dim, width) for _ in (POINT, NETWORK))
        self.position = PositionCode(config)
        self.encoder, self.decoder = _transformer(config), _transformer(config)
        self.latent, self.unfold = nn.Linear(width, config.latent_dim), nn.Linear(config.latent_dim, width)
        self.out = nn.ModuleList(nn.Linear(width, config.token_dim) for _ in (POINT, NETWORK))
        self.pool = AttentionPool(config.latent_dim)
        first, second = config.projection
        self.project = nn.Sequential(nn.Linear(config.latent_dim, first), nn.ReLU(), nn.Linear(first, second))
        self.rotation: AttentionRotation | MomentsRotation
        self.rotation = MomentsRotation(config) if config.rotation_head == "moments" else AttentionRotation(config)

    @property
    def executes_fields(self) -> bool:
        """Whether the encoder asks the field, which executes the NeRF; with tokens of rows it reads weights alone."""
        return self.config.tokens == "values"

    def tokenise(self, nerfs: NerfBatch, turns: Tensor | None = None) -> Tokens:
        """The token sequences of stacked NeRFs on the encoder's device.

        Args:
            nerfs: the NeRFs.
            turns: unit quaternions ``(B, 4)`` by which each is seen turned: tokens are read at R^T p. Exact for tokens of
                values; rows of weights cannot be turned, and this is what comes nearest to it.

        Raises:
            FieldError: a field that is not finite.
            ValueError: a NeRF whose weights do not fit the tokens.
        """
        config, points = self.config, self.points.float()
        asked = None if turns is None else points @ matrix_of(turns.float())
        if config.tokens == "values":
            tokens = value_tokens(nerfs, points, width=config.token_dim, features=config.features, asked=asked)
        else:
            nerfs = NerfBatch(nerfs.architecture, {key: value.float() for key, value in nerfs.tensors.items()})
            tokens = row_tokens(nerfs, points, width=config.token_dim, window=config.window, asked=asked)
        count = int((tokens.kinds == NETWORK).sum())
        if count > config.network_tokens:
            raise ValueError(
                f"the network makes {count} tokens, the encoder has places for {config.network_tokens}; expected a smaller "
                f"network, or an encoder of network_tokens {count} or more"
            )
        return tokens.with_pose_tokens(config.pose_tokens)

    def forward(self, tokens: Tokens) -> View:
        """Latents of token sequences; differentiable in the parameters."""
        hidden = self.position(tokens)[None].expand(len(tokens), -1, -1)
        for kind, layer in enumerate(self.into):
            chosen = (tokens.kinds == kind).nonzero()[:, 0]
            values = tokens.values[:, chosen].to(self.dtype)
            hidden = hidden.index_add(1, chosen, layer(values).to(hidden.dtype))
        return View(tokens, self.latent(self.encoder(hidden)).to(self.dtype))

    def reconstruct(self, view: View) -> Tensor:
        """Tokens' values ``(B, C, W)`` from latents; zeros for those of the pose."""
        hidden = self.decoder(self.unfold(view.latents) + self.position(view.tokens))
        values = torch.zeros_like(view.tokens.values)
        for kind, layer in enumerate(self.out):
            chosen = (view.tokens.kinds == kind).nonzero()[:, 0]
            values = values.index_add(1, chosen, layer(hidden[:, chosen]).to(values.dtype))
        return values

    def embed_view(self, view: View) -> Tensor:
        """The embedding ``(B, D)`` of what is not the pose."""
        return self.pool(view.content)

    def pose_of(self, view: View) -> Tensor:
        """What the rotation head compares of views: vectors ``(B, V, 3)``, or latents of the pose ``(B, P, D)``."""
        return self.rotation.vectors(view.tokens) if isinstance(self.rotation, MomentsRotation) else view.pose

    @torch.no_grad()
    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """Embed NeRFs of any mix of architectures, as `NerfEncoder.encode`; each has mean 0 and deviation 1."""
        return self.encode_tokens(nerfs, batch_size=batch_size, dtype=dtype)[:, 0]

    @torch.no_grad()
    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """The embedding and the latents of the pose, ``(B, 1 + P, D)``, each of mean 0 and deviation 1."""
        shape = (self.config.num_tokens, self.config.latent_dim)

        def step(batch: NerfBatch) -> Tensor:
            view = self._see(batch, dtype)
            tokens = torch.cat([self.embed_view(view)[:, None], view.pose], dim=1)
            return F.layer_norm(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), tokens.shape[-1:])

        return self.in_batches(step, nerfs, shape=shape, batch_size=batch_size)

    @torch.no_grad()
    def relative_rotations(self, a: Sequence[Nerf], b: Sequence[Nerf]) -> Tensor:
        """The head's quaternions ``(B, 4)`` that turn each a into its b: guesses for `estimate_pose`."""
        if len(a) != len(b):
            raise ValueError(f"{len(a)} NeRFs and {len(b)} others; expected as many, a pair each")
        poses = [
            [self.pose_of(self._see(NerfBatch.stack([each.to(self.device)]), None)) for each in side] for side in (a, b)
        ]
        return self.rotation(*(torch.cat(side) for side in poses))

    def check_nerf(self, nerf: Nerf) -> None:
        """Raise `ValueError` for a NeRF whose weights do not fit the encoder's tokens."""
        if self.config.tokens == "values":
            return
        try:
            with torch.no_grad():
                self.tokenise(NerfBatch.stack([nerf.to(self.device)]))
        except ValueError as error:
            raise ValueError(f"{nerf.name}: {error}") from error

    def _see(self, batch: NerfBatch, dtype: torch.dtype | None) -> View:
        tokens = self.tokenise(batch)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype not in (None, self.dtype, torch.float64)):
            return self(tokens)


def _transformer(config: SaneConfig) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        config.feed_forward,
        config.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, config.layers, norm=nn.LayerNorm(config.width), enable_nested_tensor=False)
