"""Heads of the SANE encoder: pooling, projection, and the rotation between two views.

Shapes: B NeRFs, C tokens, P pose tokens, D latent, V vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tokens.sequence import POINT, Tokens
from .config import SaneConfig

_LEAST = 1e-6


class AttentionPool(nn.Module):
    """Latents ``(B, C, D)`` to one vector ``(B, D)``: a single learnt query."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(size) * size**-0.5)
        self.key, self.value = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, latents: Tensor) -> Tensor:
        scores = self.key(latents) @ self.query * latents.shape[-1] ** -0.5
        return (scores.softmax(dim=-1)[..., None] * self.value(latents)).sum(dim=1)


class AttentionRotation(nn.Module):
    """Pose latents of two views to a quaternion: slots and views are told apart, a read-out token is attended to."""

    def __init__(self, config: SaneConfig) -> None:
        super().__init__()
        size = config.latent_dim
        self.slot = nn.Parameter(torch.randn(config.pose_tokens, size) * 0.02)
        self.view = nn.Parameter(torch.randn(2, 1, size) * 0.02)
        self.readout = nn.Parameter(torch.randn(1, size) * 0.02)
        self.layer = nn.TransformerEncoderLayer(
            size, 2, 4 * size, config.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.last = nn.Linear(size, 4)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Pose latents ``(B, P, D)`` of each view to unit quaternions ``(B, 4)``."""
        views = [latents + self.slot + view for latents, view in zip((first, second), self.view, strict=True)]
        sequence = torch.cat([self.readout.expand(len(first), 1, -1), *views], dim=1)
        quaternion = self.last(self.layer(sequence)[:, 0])
        identity = quaternion.new_tensor([_LEAST, 0.0, 0.0, 0.0])  # where nothing was said, no division by zero
        return F.normalize(torch.where(quaternion.norm(dim=-1, keepdim=True) > _LEAST, quaternion, identity), dim=-1)


class MomentsRotation(nn.Module):
    """Vectors that turn with the object, and the rotation between those of two views.

    A vector is a sum of the points' places, each weighed by what is shown there and its distance from the origin alone: turned,
    the object has turned vectors, whatever the weights. What is learnt is what to weigh. The rotation that turns one view's
    vectors best into the other's is the largest eigenvector of a 4 x 4 matrix (Davenport; Horn, 1987).
    """

    def __init__(self, config: SaneConfig) -> None:
        super().__init__()
        hidden = 4 * config.moments
        self.weigh = nn.Sequential(
            nn.Linear(config.token_dim + 1, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, config.moments),
        )  # fmt: skip

    def vectors(self, tokens: Tokens) -> Tensor:
        """``(B, V, 3)``."""
        chosen = tokens.kinds == POINT
        places = tokens.places[chosen]
        distance = places.norm(dim=-1, keepdim=True)
        values = tokens.values[:, chosen]
        weights = self.weigh(torch.cat([values, distance.expand(len(values), -1, 1)], dim=-1))
        vectors = weights.transpose(1, 2) @ places / len(places)
        size = vectors.square().sum(dim=(1, 2), keepdim=True).sqrt()
        return vectors / size.clamp(min=_LEAST)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Vectors ``(B, V, 3)`` of each view to unit quaternions ``(B, 4)`` that turn the first into the second ones."""
        m = (second.transpose(1, 2) @ first).double()  # (B, 3, 3): sum of to, from
        trace = m.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        turn = torch.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], dim=-1)
        symmetric = m + m.transpose(1, 2) - trace[:, None, None] * torch.eye(3, dtype=m.dtype, device=m.device)
        top = torch.cat([trace[:, None], turn], dim=1)[:, None]
        matrix = torch.cat([top, torch.cat([turn[:, :, None], symmetric], dim=2)], dim=1)
        return _largest_eigenvector(matrix).to(first.dtype)


def _largest_eigenvector(matrix: Tensor, steps: int = 60) -> Tensor:
    """Of symmetric matrices ``(B, 4, 4)``, by powers: a gradient that stays finite where eigenvalues meet."""
    bound = matrix.abs().sum(dim=-1).amax(dim=-1)[:, None, None]
    shifted = (matrix + bound * torch.eye(4, dtype=matrix.dtype, device=matrix.device)) / (2 * bound + _LEAST)
    power = shifted
    for _ in range(steps.bit_length()):  # each squaring doubles the power
        power = power @ power
        power = power / power.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-300)
    column = power.detach().square().sum(dim=1).argmax(dim=-1)
    vector = power.gather(2, column[:, None, None].expand(-1, 4, 1))[..., 0]
    return vector / vector.norm(dim=-1, keepdim=True).clamp(min=1e-300)
