"""What is trained: a SANE encoder, from two turned views of each object to its losses.

Shapes: B objects, C tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...encoders.sane.encoder import SaneEncoder, View
from ...nerfs.record import NerfBatch
from .losses import masked_squares, nt_xent, rotation_loss
from .recipe import SaneRecipe


@dataclass(frozen=True, eq=False)
class Side:
    """One view of each object.

    Attributes:
        nerfs: the NeRFs of each architecture.
        order: int64 ``(B,)``, the place of each object's NeRF among those of `nerfs`, one stack after the other.
        turns: unit quaternions ``(B, 4)`` by which each is seen turned.
    """

    nerfs: tuple[NerfBatch, ...]
    order: Tensor
    turns: Tensor

    def to(self, device: torch.device | str) -> Side:
        nerfs = tuple(
            NerfBatch(each.architecture, {key: tensor.to(device) for key, tensor in each.tensors.items()})
            for each in self.nerfs
        )
        return Side(nerfs, self.order.to(device), self.turns.to(device))

    def stacked_turns(self) -> tuple[Tensor, ...]:
        return self.turns[self.order.argsort()].split([len(each) for each in self.nerfs])


@dataclass(frozen=True, eq=False)
class SaneBatch:
    """Two views of B objects, and the rotation from the first to the second one, with the noise of its label ``(B, 4)``."""

    first: Side
    second: Side
    rotation: Tensor

    def to(self, device: torch.device | str) -> SaneBatch:
        return SaneBatch(self.first.to(device), self.second.to(device), self.rotation.to(device))


@dataclass(frozen=True, eq=False)
class SaneLosses:
    """`total` is what is minimised; the others are what it is made of, unweighted. All scalars."""

    total: Tensor
    reconstruction: Tensor
    contrastive: Tensor
    rotation: Tensor
    latent: Tensor

    def parts(self) -> dict[str, Tensor]:
        names = ("reconstruction", "contrastive", "rotation", "latent")
        return {name: getattr(self, name) for name in names}


class SaneModel(nn.Module):
    """The encoder and its losses. Parameters start from the recipe's seed, whatever torch's own generator is at."""

    def __init__(self, recipe: SaneRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.encoder = SaneEncoder(recipe.encoder_config)

    def forward(self, batch: SaneBatch) -> SaneLosses:
        """Losses of a batch, on the device of the parameters."""
        recipe, encoder = self.recipe, self.encoder
        sides = [self.see(batch.first), self.see(batch.second)]
        views = [view for side in sides for view in side]
        zero = batch.rotation.new_zeros(())
        reconstruction = contrastive = rotation = zero
        if recipe.reconstruction_weight:
            found = [masked_squares(encoder.reconstruct(view), view.tokens.values, view.tokens.mask) for view in views]
            reconstruction = torch.stack([each for each, _ in found]).sum() / sum(count for _, count in found)
        if recipe.contrastive_weight:
            pooled = [
                self.embeddings(side, part) for side, part in zip(sides, (batch.first, batch.second), strict=True)
            ]
            contrastive = nt_xent(encoder.project(pooled[0]), encoder.project(pooled[1]), recipe.temperature)
        if recipe.rotation_weight:
            rotation = rotation_loss(self.rotations(sides, batch), batch.rotation)
        latent = torch.cat([view.latents.square().flatten() for view in views]).mean()
        total = (
            recipe.reconstruction_weight * reconstruction
            + recipe.contrastive_weight * contrastive
            + recipe.rotation_weight * rotation
            + recipe.latent_weight * latent
        )
        return SaneLosses(total, reconstruction, contrastive, rotation, latent)

    def see(self, side: Side) -> list[View]:
        """The views of each stack; in training with noise on their tokens."""
        views = []
        for nerfs, turns in zip(side.nerfs, side.stacked_turns(), strict=True):
            tokens = self.encoder.tokenise(nerfs, turns)
            if self.recipe.blind:
                tokens = tokens.with_values(torch.zeros_like(tokens.values))
            elif self.training and self.recipe.noise:
                factor = 1 + self.recipe.noise * torch.randn_like(tokens.values)
                tokens = tokens.with_values(tokens.values * factor)
            views.append(self.encoder(tokens))
        return views

    def embeddings(self, views: Sequence[View], side: Side) -> Tensor:
        """Embeddings ``(B, D)`` in the order of the batch."""
        return torch.cat([self.encoder.embed_view(view) for view in views])[side.order]

    def rotations(self, sides: Sequence[Sequence[View]], batch: SaneBatch) -> Tensor:
        """The head's quaternions ``(B, 4)`` in the order of the batch."""
        first, second = (
            torch.cat([self.encoder.pose_of(view) for view in views])[side.order]
            for views, side in zip(sides, (batch.first, batch.second), strict=True)
        )
        return self.encoder.rotation(first, second)
