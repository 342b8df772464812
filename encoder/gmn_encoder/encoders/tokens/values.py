"""Tokens of what fields show: the same for all weights that make the same field, and exact in every turn.

A point's token holds colour times opacity and opacity there, over a mean of the file's opacity (how dense a fit makes its
surfaces depends on family and training), and, where asked for, the interpolated features of each level or of the planes,
standardised. What a NeRF turned by R shows at p, it shows itself at R^T p: so one file gives any number of exact views,
with no NeRF trained anew. The features can be read there as well, but they depend on the gauge of the file: without them the
tokens are free of it.

Shapes: B NeRFs, K points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...nerfs.network import NetworkArchitecture
from ...nerfs.probing import visible_field
from ...nerfs.record import NerfBatch
from .sequence import POINT, Part, Tokens, joined

_LARGEST_GAIN = 20.0


def value_tokens(
    nerfs: NerfBatch, points: Tensor, *, width: int, features: bool = False, asked: Tensor | None = None
) -> Tokens:
    """Tokens of fields at points.

    Args:
        nerfs: stacked NeRFs of any family, on the device of the points.
        points: world coordinates ``(K, 3)``, to which the tokens belong.
        width: values of a token, W.
        features: whether the interpolated features of tables and planes stand beside what is shown.
        asked: where the field is asked instead, ``(B, K, 3)``: at R^T p, the NeRF is seen as if turned by R.

    Raises:
        FieldError: a field that is not finite.
        ValueError: more features than fit a token.
    """
    where = points.expand(len(nerfs), -1, -1) if asked is None else asked
    shown = visible_field(nerfs, where)
    alpha = shown[..., 3]
    gain = alpha.sum(dim=1) / alpha.square().sum(dim=1).clamp(min=1e-6)
    parts = [shown * gain.clamp(max=_LARGEST_GAIN)[:, None, None]]
    if features:
        parts += _features(nerfs, where)
    values = torch.cat(parts, dim=-1)
    mask = torch.ones(values.shape[1:], dtype=torch.bool, device=values.device)
    places = points / points.abs().amax().clamp(min=1e-6)
    nothing = values.new_zeros(len(nerfs), 0)
    return joined([Part(values, mask, POINT, places=places)], width, means=nothing, deviations=nothing)


@torch.no_grad()
def _features(nerfs: NerfBatch, where: Tensor) -> list[Tensor]:
    """Interpolated features ``(B, K, E)`` without the waves of the coordinates, each standardised over the points."""
    architecture = nerfs.architecture
    if not isinstance(architecture, NetworkArchitecture):
        return []
    tensors = {key: tensor.float() for key, tensor in nerfs.tensors.items()}
    found = architecture.point_features(tensors, where.float())[..., 6 * architecture.octaves :]
    if not found.shape[-1]:
        return []
    spread = found.std(dim=1, keepdim=True, correction=0).clamp(min=1e-6)
    return [(found - found.mean(dim=1, keepdim=True)) / spread]
