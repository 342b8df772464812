"""The rendering loss: what the decoder shows of an embedding against what the NeRF itself shows.

Source: the paper's equations 1 and 2 and Appendix B (foreground 0.8, background 0.2), nf2vec, and the released trainer
(docs/released_format.md#rendering-loss). Two terms, both smooth L1: colours of rays that hit the object, and points of empty
space, whose colour before a background is to be the background. Two modes:

* ``clean`` (default): the teacher's colour is composited over the background once, a point's opacity is that of one marching
  step, ``1 - exp(-density step)``, and every NeRF of the batch weighs the same (equation 2).
* ``released``: the numbers of the released code. The teacher's colour, already over the background, is composited over it a
  second time; the raw density is a point's opacity; shorter lists of points are padded with zeros, which count in the mean.

Shapes: B NeRFs, R rays, P points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ...rendering.marching import STEP
from ...settings import require_numbers, require_one_of, require_positive

LossMode = Literal["clean", "released"]


@dataclass(frozen=True, kw_only=True)
class RenderingLossConfig:
    """How the two terms are made.

    Attributes:
        mode: "clean" or "released", see the module.
        foreground_weight, background_weight: weights of the two terms.
        step: length of a marching step in world units, which makes a density an opacity in ``clean`` mode.
    """

    mode: LossMode = "clean"
    foreground_weight: float = 0.8
    background_weight: float = 0.2
    step: float = STEP

    def __post_init__(self) -> None:
        require_one_of(self, "mode", get_args(LossMode))
        require_numbers(self, 0, "foreground_weight", "background_weight")
        require_positive(self, "step")


@dataclass(frozen=True, eq=False)
class RenderingLoss:
    """`total` is the weighted sum of the two terms; all scalars."""

    total: Tensor
    foreground: Tensor
    background: Tensor


def rendering_loss(
    colour: Tensor,
    target: Tensor,
    *,
    ray_nerf: Tensor,
    point_rgb: Tensor,
    point_density: Tensor,
    point_nerf: Tensor,
    background: Tensor,
    config: RenderingLossConfig | None = None,
) -> RenderingLoss:
    """Both terms for B NeRFs.

    Args:
        colour: the decoder's colours of the rays, composited over the background once, ``(R, 3)``.
        target: the teacher's colours, from `target_colour`, ``(R, 3)``.
        ray_nerf, point_nerf: number of the NeRF that a ray or point belongs to, int64 ``(R,)`` and ``(P,)``.
        point_rgb, point_density: the decoder's colours and densities at points of empty space, ``(P, 3)`` and ``(P, 1)``.
        background: ``(B, 3)``, the colour behind each NeRF.
        config: weights, mode, step.

    Returns:
        the terms, differentiable in `colour`, `point_rgb` and `point_density`; a term without rays or points is zero.
    """
    config = config or RenderingLossConfig()
    label = background.index_select(0, point_nerf)
    opacity = point_density if config.mode == "released" else -torch.expm1(-point_density * config.step)
    seen = point_rgb * opacity + label * (1 - opacity)
    fore, back = (F.smooth_l1_loss(a, b, reduction="none").mean(dim=1) for a, b in ((colour, target), (seen, label)))
    nerfs = len(background)
    if config.mode == "released":
        longest = torch.bincount(point_nerf, minlength=nerfs).amax()
        terms = fore.sum() / max(len(fore), 1), back.sum() / (nerfs * longest).clamp(min=1)
    else:
        terms = _mean_of_means(fore, ray_nerf, nerfs), _mean_of_means(back, point_nerf, nerfs)
    total = config.foreground_weight * terms[0] + config.background_weight * terms[1]
    return RenderingLoss(total, *terms)


def target_colour(colour: Tensor, opacity: Tensor, background: Tensor, *, mode: LossMode = "clean") -> Tensor:
    """What rays are to show: the teacher's premultiplied colour ``(R, 3)`` and opacity ``(R,)`` over ``(3,)`` or ``(R, 3)``."""
    opacity = opacity[:, None]
    once = colour + background * (1 - opacity)
    return once if mode == "clean" else once * opacity + background * (1 - opacity)


def _mean_of_means(values: Tensor, nerf: Tensor, nerfs: int) -> Tensor:
    """Mean over NeRFs of the mean over each one's values ``(V,)``; NeRFs without values do not count."""
    counts = torch.bincount(nerf, minlength=nerfs)
    share = counts.clamp(min=1).to(values.dtype).reciprocal().index_select(0, nerf)
    return (values * share).sum() / (counts > 0).sum().clamp(min=1)
