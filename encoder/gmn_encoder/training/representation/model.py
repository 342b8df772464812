"""What is trained: encoder, decoder and SigLIP's two numbers, from a batch to its losses.

Source: the paper's equations 1 to 4. Shapes: B NeRFs, D embedding, S samples, P points.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...encoders.decoder import NerfDecoder
from ...encoders.gmn.encoder import GmnEncoder
from ...nerfs.record import Nerf
from ...rendering.compositing import composite
from .batches import Lights, TrainingBatch
from .calibration import calibrate_decoder, calibrate_head, calibrate_readout
from .recipe import Recipe
from .rendering_loss import RenderingLoss, rendering_loss, target_colour
from .siglip import SiglipLoss

_MOST_LOOKED_AT = 24  # NeRFs whose edges a readout is fitted to


@dataclass(frozen=True, eq=False)
class Losses:
    """`total` is what is minimised; the parts are there as far as the recipe has them. All scalars."""

    total: Tensor
    rendering: RenderingLoss | None
    contrastive: Tensor | None


class TrainedModel(nn.Module):
    """The parts, under the names that they have in released checkpoints.

    Args:
        recipe: sizes and loss; parameters start from its seed, whatever torch's own generator is at.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.encoder = GmnEncoder(recipe.encoder_config)
            with torch.no_grad():
                self.encoder.get_parameter("pre_encoder.weight_encoder.0.weight").mul_(recipe.value_gain)
            if not recipe.body_rate:
                for parameter in self.encoder.backbone_parameters():
                    parameter.requires_grad_(False)
            self.decoder = NerfDecoder(recipe.decoder_config) if recipe.renders else None
        self.siglip = (
            SiglipLoss(temperature=recipe.temperature, shift=recipe.shift, chunk_size=recipe.chunk_size or None)
            if recipe.contrasts
            else None
        )
        if recipe.compile and self.decoder is not None:
            self.decoder.trunk = torch.compile(self.decoder.trunk, dynamic=True)  # type: ignore[method-assign]

    def forward(self, batch: TrainingBatch) -> Losses:
        """Losses of a batch, on the device of the parameters."""
        embeddings = self.embed(batch)
        rendering = contrastive = None
        total = embeddings.new_zeros(())
        if self.decoder is not None and batch.lights is not None:
            rendering = self.render(embeddings, batch.lights)
            total = total + rendering.total
        if self.siglip is not None:
            contrastive = self.siglip(embeddings[0::2], embeddings[1::2])
            total = total + (self.recipe.contrastive_weight if self.recipe.renders else 1.0) * contrastive
        return Losses(total, rendering, contrastive)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given, with the rate of each group."""
        recipe = self.recipe
        if recipe.body_rate == 1:
            return [{"params": list(self.parameters()), "lr": recipe.learning_rate}]
        body = list(self.encoder.backbone_parameters())
        slow = {id(parameter) for parameter in body}
        groups = [{"params": [p for p in self.parameters() if id(p) not in slow], "lr": recipe.learning_rate}]
        if recipe.body_rate:
            groups.append({"params": body, "lr": recipe.body_rate * recipe.learning_rate})
        return groups

    def calibrate(self, nerfs: Sequence[Nerf]) -> None:
        """Start from what examples of all families look like, see `calibration`."""
        some = nerfs[:: -(-len(nerfs) // _MOST_LOOKED_AT)]
        calibrate_readout(self.encoder, some, active=self.recipe.active, seed=self.recipe.seed)
        if self.encoder.head is None and self.decoder is None:
            return
        readouts = self.encoder.encode_readouts(nerfs)
        if self.encoder.head is not None:
            calibrate_head(self.encoder, readouts, [nerf.family for nerf in nerfs])
        if self.decoder is not None:
            calibrate_decoder(self.decoder, self.encoder.apply_head(readouts))

    def embed(self, batch: TrainingBatch) -> Tensor:
        """Embeddings ``(B, D)`` in the order of the batch."""
        dtype = torch.bfloat16 if self.recipe.precision == "bfloat16" else None
        return torch.cat([self.encoder.embed(nerfs, dtype=dtype) for nerfs in batch.nerfs])[batch.order]

    def render(self, embeddings: Tensor, lights: Lights) -> RenderingLoss:
        """The rendering loss of embedded NeRFs: the decoder is asked once, for all samples and points."""
        rays, samples, recipe = lights.rays, lights.samples, self.recipe
        rgb, density = self.ask(embeddings, lights)
        behind = lights.background.index_select(0, _nerf(rays.nerf_index))
        seen = composite(rgb[: len(samples)], density[: len(samples)], samples, background=behind)
        return rendering_loss(
            seen.colour,
            target_colour(lights.colour, lights.opacity, behind, mode=recipe.rendering),
            ray_nerf=_nerf(rays.nerf_index),
            point_rgb=rgb[len(samples) :],
            point_density=density[len(samples) :],
            point_nerf=lights.point_nerf,
            background=lights.background,
            config=recipe.loss_config,
        )

    def ask(self, embeddings: Tensor, lights: Lights) -> tuple[Tensor, Tensor]:
        """Colours and densities at the samples and, behind them, the points ``(S + P, ...)``."""
        if self.decoder is None:
            raise ValueError("loss 'c' trains no decoder; nothing to render")
        samples = lights.samples
        xyz = torch.cat([samples.positions(lights.rays), lights.points])
        owner = torch.cat([_nerf(lights.rays.nerf_index).index_select(0, samples.ray_index), lights.point_nerf])
        with self._autocast(xyz.device.type):
            return self.decoder.field(embeddings)(xyz, owner)

    def _autocast(self, device_type: str) -> Any:
        if self.recipe.precision == "bfloat16":
            return torch.autocast(device_type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


def _nerf(index: Tensor | None) -> Tensor:
    if index is None:
        raise ValueError("rays without nerf_index; expected to know which NeRF each one belongs to")
    return index
