"""What is trained: encoder, decoder and SigLIP's two numbers, from a batch to its losses.

Source: the paper's equations 1 to 4. Shapes: B NeRFs, D embedding, S samples, P points.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders.decoder import NerfDecoder
from ...encoders.gmn.encoder import GmnEncoder, Reading
from ...nerfs.probing import read_grid, shown, visible_field
from ...rendering.compositing import composite
from .batches import PointBatch, RenderingBatch, TrainingBatch
from .recipe import Recipe
from .rendering_loss import RenderingLoss, rendering_loss, target_colour
from .siglip import InfoNceLoss, SiglipLoss


@dataclass(frozen=True, eq=False)
class Losses:
    """`total` is what is minimised; the others are there as far as the recipe has them. All scalars."""

    total: Tensor
    rendering: RenderingLoss | None
    contrastive: Tensor | None
    regression: Tensor | None = None

    def parts(self) -> dict[str, Tensor]:
        """What the total is made of."""
        parts: dict[str, Tensor] = {}
        if self.rendering is not None:
            parts |= {"foreground": self.rendering.foreground, "background": self.rendering.background}
        if self.contrastive is not None:
            parts["siglip"] = self.contrastive
        if self.regression is not None:
            parts["regression"] = self.regression
        return parts


class CellDecoder(nn.Module):
    """What a NeRF shows at a point, from the local token of the point's cell alone: it makes local tokens say what is there."""

    def __init__(self, embedding_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(embedding_dim + 3, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 4))

    def forward(self, tokens: Tensor, xyz: Tensor) -> Tensor:
        """Tokens of the points' cells ``(B, P, D)`` and the points ``(B, P, 3)`` to what is seen there ``(B, P, 4)``, 0..1."""
        return torch.sigmoid(self.layers(torch.cat([tokens, xyz.to(tokens.dtype)], dim=-1)))


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
            if recipe.graph:
                with torch.no_grad():
                    self.encoder.get_parameter("pre_encoder.weight_encoder.0.weight").mul_(recipe.value_gain)
            if not recipe.body_rate:
                for parameter in self.encoder.graph_parameters():
                    parameter.requires_grad_(False)
            if recipe.freeze == "encoder":
                self.encoder.requires_grad_(False)
            elif self.encoder.probes is not None and recipe.freeze:
                self.encoder.probes.requires_grad_(False)
            self.decoder = NerfDecoder(recipe.decoder_config) if recipe.decodes else None
            self.cell_decoder = None
            if recipe.regression_weight and recipe.probes and recipe.token_grid:
                self.cell_decoder = CellDecoder(recipe.embedding_dim)
        self.siglip: SiglipLoss | None = None
        self.infonce: InfoNceLoss | None = None
        if recipe.contrasts and recipe.contrastive == "infonce":
            self.infonce = InfoNceLoss(temperature=recipe.temperature)
        elif recipe.contrasts:
            self.siglip = SiglipLoss(
                temperature=recipe.temperature, shift=recipe.shift, chunk_size=recipe.chunk_size or None
            )
        if recipe.compile and self.decoder is not None:
            self.decoder.trunk = torch.compile(self.decoder.trunk, dynamic=True)  # type: ignore[method-assign]

    def train(self, mode: bool = True) -> Self:
        """As of every module; an encoder that stays as it is neither drops anything nor counts what it sees."""
        super().train(mode)
        if self.recipe.freeze == "encoder":
            self.encoder.eval()
        return self

    def forward(self, batch: TrainingBatch) -> Losses:
        """Losses of a batch, on the device of the parameters."""
        reading = self.read(batch)
        return self.losses(self.encoder.combine(reading), batch, reading)

    def losses(self, embeddings: Tensor, batch: TrainingBatch, reading: Reading | None = None) -> Losses:
        """Losses of a batch whose NeRFs have these embeddings ``(B, D)``; local tokens have theirs where a reading is given."""
        rendering = contrastive = regression = None
        total = embeddings.new_zeros(())
        if self.decoder is not None and batch.rendering is not None:
            rendering = self.render(embeddings, batch.rendering, batch.asked)
            total = total + rendering.total
        if self.recipe.contrasts:
            contrastive = self.contrast(embeddings.unflatten(0, (-1, self.recipe.views)))
            total = total + (self.recipe.contrastive_weight if self.recipe.renders else 1.0) * contrastive
        if self.recipe.regression_weight and batch.asked is not None:
            regression = self.regress(embeddings, reading, batch)
            total = total + self.recipe.regression_weight * regression
        return Losses(total, rendering, contrastive, regression)

    def contrast(self, embeddings: Tensor) -> Tensor:
        """The contrastive loss of objects in V families ``(N, V, D)``: the mean over the pairs of these."""
        loss = self.siglip or self.infonce
        if loss is None:
            raise ValueError("loss 'r' has no contrastive part")
        sides = embeddings.unbind(1)
        return torch.stack([loss(a, b) for a, b in itertools.combinations(sides, 2)]).mean()

    def regress(self, embeddings: Tensor, reading: Reading | None, batch: TrainingBatch) -> Tensor:
        """Mean squared error of what the decoder, and the local tokens, show at the batch's points."""
        if self.decoder is None or batch.asked is None:
            raise ValueError("nothing to regress: no decoder, or no points")
        points = batch.asked.points
        target = self.ask(batch, points)
        with self._autocast(points.device.type):
            rgb, density = self.decoder(embeddings, points)
        loss = F.mse_loss(shown(rgb, density), target)
        probes = self.encoder.probes
        if self.cell_decoder is None or probes is None or reading is None or reading.fields is None:
            return loss
        tokens = probes.tokens(reading.fields)
        own = probes.cells(points)[..., None].expand(-1, -1, tokens.shape[-1])
        return loss + F.mse_loss(self.cell_decoder(tokens.gather(1, own), points), target)

    def ask(self, batch: TrainingBatch, points: Tensor) -> Tensor:
        """What a batch shows ``(B, K, 4)`` at points ``(K, 3)`` or ``(B, K, 3)``, moved and recoloured as it says."""
        asked = batch.asked
        where = points.expand(len(batch), -1, -1) if asked is None else asked.moved(points)
        if batch.fields is not None:
            seen = read_grid(batch.fields, where)
        else:
            stacks = zip(batch.nerfs, batch.by_stack(where), strict=True)
            seen = torch.cat([visible_field(nerfs, each) for nerfs, each in stacks])[batch.order]
        if asked is None:
            return seen
        return torch.cat([asked.recoloured(seen[..., :3], seen[..., 3:]), seen[..., 3:]], dim=-1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given, with the rate of each group."""
        recipe = self.recipe
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if recipe.body_rate == 1:
            return [{"params": learnt, "lr": recipe.learning_rate}]
        body = list(self.encoder.graph_parameters())
        slow = {id(parameter) for parameter in body}
        groups = [{"params": [p for p in learnt if id(p) not in slow], "lr": recipe.learning_rate}]
        if recipe.body_rate:
            groups.append({"params": body, "lr": recipe.body_rate * recipe.learning_rate})
        return groups

    def read(self, batch: TrainingBatch) -> Reading:
        """What the encoder reads of the NeRFs, in the order of the batch."""
        dtype = torch.bfloat16 if self.recipe.precision == "bfloat16" else None
        points = self.encoder.probe_points
        fields: Sequence[Tensor | None] = [None] * len(batch.nerfs)
        if points is not None:
            fields = batch.by_stack(self.ask(batch, points))
        parts = [
            self.encoder.read(nerfs, dtype=dtype, fields=each) for nerfs, each in zip(batch.nerfs, fields, strict=True)
        ]
        return Reading.join(parts)[batch.order]

    def embed(self, batch: TrainingBatch) -> Tensor:
        """Embeddings ``(B, D)`` in the order of the batch."""
        return self.encoder.combine(self.read(batch))

    def render(self, embeddings: Tensor, rendering: RenderingBatch, asked: PointBatch | None = None) -> RenderingLoss:
        """The rendering loss of embedded NeRFs: the decoder is queried once, for all samples and points."""
        rays, samples, recipe = rendering.rays, rendering.samples, self.recipe
        rgb, density = self.query(embeddings, rendering, asked)
        behind = rendering.background.index_select(0, _nerf(rays.nerf_index))
        colour = rendering.colour
        if asked is not None:
            colour = asked.recoloured(colour, rendering.opacity[:, None], _nerf(rays.nerf_index))
        seen = composite(rgb[: len(samples)], density[: len(samples)], samples, background=behind)
        return rendering_loss(
            seen.colour,
            target_colour(colour, rendering.opacity, behind, mode=recipe.rendering),
            ray_nerf=_nerf(rays.nerf_index),
            point_rgb=rgb[len(samples) :],
            point_density=density[len(samples) :],
            point_nerf=rendering.point_nerf,
            background=rendering.background,
            config=recipe.loss_config,
        )

    def query(
        self, embeddings: Tensor, rendering: RenderingBatch, asked: PointBatch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Colours and densities at the samples and, behind them, the points ``(S + P, ...)``.

        Rays are those of the NeRFs themselves: where these were moved (`asked`), the decoder is asked where the samples went.
        """
        if self.decoder is None:
            raise ValueError("loss 'c' trains no decoder; nothing to render")
        samples = rendering.samples
        xyz = torch.cat([samples.positions(rendering.rays), rendering.points])
        owner = torch.cat([_nerf(rendering.rays.nerf_index).index_select(0, samples.ray_index), rendering.point_nerf])
        if asked is not None:
            xyz = asked.of_moved(xyz, owner)
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
