"""The four losses of SANE over NeRFs. Shapes: B objects, C tokens, W values of a token, D of what is compared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pose.rotations import conjugate, geodesic_angle, multiply


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent of pairs ``(B, D)`` (Chen et al., SimCLR, 2020): each of 2 B rows finds its partner among the others.

    Where all rows are equal it is ``ln(2 B - 1)``.
    """
    rows = F.normalize(torch.cat([a, b]).float(), dim=-1)
    logits = rows @ rows.T / temperature
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), float("-inf"))
    partner = torch.arange(len(rows), device=rows.device).roll(len(a))
    return F.cross_entropy(logits, partner)


def rotation_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """The mean squared angle between unit quaternions ``(B, 4)``, rad^2: chance is pi^2 / 3 + 2 = 5.29."""
    return geodesic_angle(predicted, true).square().mean()


def relative_rotation(first: Tensor, second: Tensor) -> Tensor:
    """What turns views that are turned by `first` into those turned by `second`, unit quaternions ``(B, 4)``."""
    return multiply(second, conjugate(first))


def masked_squares(values: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of squared differences ``(B, C, W)`` where the mask ``(C, W)`` says so, and how many these are."""
    squares = (values - target).square() * mask
    return squares.sum(), mask.sum() * len(values)
