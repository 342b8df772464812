"""The decoder: an embedding and a point in, the colour and density of the embedded NeRF there out.

Source: the paper's Appendix B and nf2vec, with the released state-dict names (docs/released_format.md#decoder). One difference in
the order of the work: the embedding is the same for all points of a NeRF, so its part of the two layers that read the input
(`in_layer`, `skip_proj`) is worked out once per NeRF and added to each point's. Both layers then are one product over the
coordinate features and, beside them, a one-hot column that picks the NeRF: the sum over the points of a NeRF that the gradient
needs is part of the same product backwards, and no ``(points, D)`` tensor exists.

Shapes: B NeRFs, S points of each, P points of all, D embedding (1024), H hidden (1024), K frequencies, F = 6 K features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nerfs.fields import density_activation, float32_unit_coordinates, frequency_features, unit_coordinates
from ..rendering.render import Field
from .files import check_state

_RELEASED_INPUTS = (1024 + 144, 1024 + 288)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes of a `NerfDecoder`.

    Attributes:
        embedding_dim: size of the embeddings it reads.
        hidden_dim: width of every hidden layer.
        frequencies: octaves of the coordinate features: 24 in the paper, 48 in the released trainer.
    """

    embedding_dim: int = 1024
    hidden_dim: int = 1024
    frequencies: int = 24

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "hidden_dim", "frequencies"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"DecoderConfig.{name} must be a positive integer, got {value!r}")

    @property
    def features(self) -> int:
        """Coordinate features: sine and cosine of each octave on each axis."""
        return 6 * self.frequencies


class NerfDecoder(nn.Module):
    """Embeddings and coordinates to radiance fields; state-dict names and shapes are those of the released checkpoints."""

    def __init__(self, config: DecoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or DecoderConfig()
        self._sizes_open = False
        hidden, inputs = self.config.hidden_dim, self.config.embedding_dim + self.config.features

        def layer(width: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, hidden), nn.ReLU())

        self.in_layer, self.skip_proj = layer(inputs), layer(inputs)
        self.before_skip = nn.Sequential(layer(hidden), layer(hidden))
        self.after_skip = nn.Sequential(layer(hidden), layer(hidden), nn.Linear(hidden, 4))

    def forward(self, embeddings: Tensor, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Colours and densities of B embedded NeRFs, each at its own points.

        Args:
            embeddings: one embedding a NeRF ``(B, D)``.
            xyz: world coordinates ``(B, S, 3)``; float64 is computed in float64.

        Returns:
            rgb ``(B, S, 3)`` in 0..1 and density ``(B, S, 1)`` per world unit, zero outside the box; differentiable in
            embeddings and parameters. No points: empty results.

        Raises:
            ValueError: shapes that do not fit the decoder or each other.
        """
        if embeddings.ndim != 2 or xyz.ndim != 3 or xyz.shape[-1] != 3 or len(embeddings) != len(xyz):
            raise ValueError(
                f"embeddings have shape {list(embeddings.shape)} and xyz {list(xyz.shape)}; expected (B, D) and (B, S, 3)"
            )
        batch, points = xyz.shape[:2]
        owner = torch.arange(batch, device=xyz.device).repeat_interleave(points)
        rgb, density = self.field(embeddings)(xyz.flatten(0, 1), owner)
        return rgb.view(batch, points, 3), density.view(batch, points, 1)

    def field(self, embeddings: Tensor) -> Field:
        """The field of embedded NeRFs ``(B, D)``, for `render_rays`: points ``(P, 3)`` with the NeRF of each, int64 ``(P,)``.

        Without NeRF numbers all points query the first one.
        """
        if self._sizes_open and embeddings.ndim == 2:
            width = embeddings.shape[1]
            frequencies = _frequencies(self.config.embedding_dim + self.config.features, width)
            self.config = dataclasses.replace(self.config, embedding_dim=width, frequencies=frequencies)
            self._sizes_open = False
        width = self.config.embedding_dim
        if embeddings.ndim != 2 or embeddings.shape[1] != width:
            raise ValueError(f"embeddings have shape {list(embeddings.shape)}; expected (B, {width})")
        first: Any = self.in_layer[0]
        skip: Any = self.skip_proj[0]
        reads = torch.cat([first.weight, skip.weight])  # (2 H, D + F)
        per_nerf = F.linear(embeddings.to(reads.dtype), reads[:, :width], torch.cat([first.bias, skip.bias]))
        # Rows: the coordinate features, then one for each NeRF.
        table = torch.cat([reads[:, width:].T, per_nerf.to(reads.dtype)])

        def field(xyz: Tensor, nerf_index: Tensor | None) -> tuple[Tensor, Tensor]:
            return self._points(xyz, nerf_index, table)

        return field

    def _points(self, xyz: Tensor, nerf_index: Tensor | None, table: Tensor) -> tuple[Tensor, Tensor]:
        features, inside = self.coordinate_features(xyz)
        if nerf_index is None:
            nerf_index = torch.zeros(len(xyz), dtype=torch.int64, device=xyz.device)
        nerfs = len(table) - self.config.features
        # Not F.one_hot, which reads its values: a wait for the device.
        chosen = nerf_index[:, None] == torch.arange(nerfs, device=xyz.device)
        raw = self.trunk(torch.cat([features.to(table.dtype), chosen.to(table.dtype)], dim=1), table)
        rgb = torch.sigmoid(raw[:, :3].to(torch.promote_types(raw.dtype, torch.float32)))
        return rgb, density_activation(raw[:, 3:]) * inside

    def trunk(self, inputs: Tensor, table: Tensor) -> Tensor:
        """The network behind the features: ``(P, F + B)`` and the folded table ``(F + B, 2 H)`` to raw outputs ``(P, 4)``."""
        hidden, skip = torch.relu(inputs @ table).chunk(2, dim=1)
        return self.after_skip(self.before_skip(hidden) + skip)

    def coordinate_features(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(..., F)`` of world coordinates ``(..., 3)`` and whether each lies in the box ``(..., 1)``."""
        u, inside = unit_coordinates(xyz)
        return frequency_features(float32_unit_coordinates(xyz, u), self.config.frequencies), inside

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], *, embedding_dim: int | None = None) -> NerfDecoder:
        """A decoder of the sizes that the weights have, in evaluation mode.

        Args:
            state: tensors under the released names.
            embedding_dim: columns of the input layers that read the embedding. Left out, 1024 where that leaves the
                released 144 or 288 coordinate features; otherwise the first embeddings that the decoder sees say it.

        Raises:
            ValueError: tensors that are missing, unknown, of shapes that make no decoder, or not finite.
        """
        weight = state.get("in_layer.0.weight")
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            found = ", ".join(repr(str(key)) for key in list(state)[:4]) or "nothing"
            raise ValueError(f"holds no decoder; found {found}; expected in_layer.0.weight and so on")
        hidden, inputs = weight.shape
        known = embedding_dim is not None or inputs in _RELEASED_INPUTS
        width = embedding_dim if embedding_dim is not None else 1024 if known else 1 + (inputs - 1) % 6
        decoder = cls(DecoderConfig(embedding_dim=width, hidden_dim=hidden, frequencies=_frequencies(inputs, width)))
        decoder._sizes_open = not known
        check_state(decoder, state)
        decoder = decoder.to(weight.dtype)
        decoder.load_state_dict(dict(state))
        return decoder.eval()


def _frequencies(inputs: int, embedding_dim: int) -> int:
    if inputs <= embedding_dim or (inputs - embedding_dim) % 6:
        raise ValueError(
            f"a decoder with {inputs} inputs does not read embeddings of {embedding_dim}; "
            "expected a positive multiple of 6 coordinate features beside them"
        )
    return (inputs - embedding_dim) // 6
