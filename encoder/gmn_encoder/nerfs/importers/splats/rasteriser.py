"""Images of Gaussian splats by their own rule, to compare with and to fit to.

Source: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023; Zwicker et al., "EWA volume
splatting", 2001. A splat's covariance is projected through the camera's Jacobian at its mean and widened by 0.3 square pixels;
its opacity at a pixel's centre is ``min(0.99, opacity exp(-d^2 / 2))``, left out below 1/255; splats are composited front to
back in the order of the depths of their means. Two things are exact where the released rasteriser is not: a splat reaches as
far as its opacity does (not three standard deviations, in whole tiles), and pixels do not stop one by one at a transmittance
of 1e-4.

Shapes: N splats, P pairs of a splat and a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .record import Splats

_WIDENING = 0.3  # square pixels
_LEAST, _MOST = 1 / 255, 0.99  # opacities that are shown
_BEYOND = 1.3  # how far beyond the image, of its half width, means are taken as they are in the Jacobian
_DARK = 1e-4  # transmittance at which nothing is looked for behind
_PAIRS = 1 << 20  # that are held at once, about


@torch.no_grad()
def rasterise(
    splats: Splats, pose: Tensor, focal: Tensor, principal: Tensor, width: int, height: int, *, near: float = 1e-6
) -> Tensor:
    """One image.

    Args:
        splats: the splats.
        pose: camera-to-world matrix ``(4, 4)`` in the splats' world, OpenGL axes (x right, y up, looking along -z).
        focal, principal: ``(2,)`` pixels, as of `rendering.cameras.Cameras`.
        width, height: size of the image.
        near: depth up to which means are not shown, in units of the splats' world.

    Returns:
        ``(height, width, 4)``, colour multiplied by opacity, and opacity.
    """
    pose, focal, principal = (part.to(splats.means) for part in (pose, focal, principal))
    depth = -(splats.means - pose[:3, 3]) @ pose[:3, 2]
    order = depth.argsort()
    shown = splats.select(order[(depth[order] > near) & (splats.opacities[order] >= _LEAST)])
    place, spread = _project(shown, pose, focal, principal, focal.new_tensor([width, height]))
    # d^2 at which the opacity falls below what is shown, and how far from the mean that is along rows and columns
    reach = 2 * (shown.opacities / _LEAST).log()
    extent = (reach[:, None] * spread.diagonal(dim1=1, dim2=2)).sqrt()
    limit = place.new_tensor([width, height])
    first = (place - extent - 0.5).ceil().clamp(min=0).minimum(limit).int()
    count = ((place + extent + 0.5).floor().clamp(min=0).minimum(limit).int() - first).clamp(min=0)
    kept = (count.prod(dim=1) > 0).nonzero()[:, 0]
    xx, xy, yy = spread[:, 0, 0], spread[:, 0, 1], spread[:, 1, 1]
    conic = torch.stack([yy, -2 * xy, xx], dim=1) / (-2 * (xx * yy - xy * xy))[:, None]
    gaussians = torch.cat([place, conic, shown.opacities[:, None]], dim=1)
    colours = shown.seen_from(F.normalize(shown.means - pose[:3, 3], dim=1))
    parts = [part.index_select(0, kept) for part in (gaussians, first, count, colours)]
    # Front to back, in groups of splats that fit into memory, as long as light comes through anywhere
    image, light = place.new_zeros(height * width, 4), place.new_ones(height * width, 1)
    groups = (parts[2].prod(dim=1).cumsum(0) // _PAIRS).unique_consecutive(return_counts=True)[1].tolist()
    for group in zip(*(part.split(groups) for part in parts), strict=True):
        if float(light.max()) < _DARK:
            break
        behind, passed = _composite(group, width, height)
        image += light * behind
        light *= passed
    return image.view(height, width, 4)


def _project(splats: Splats, pose: Tensor, focal: Tensor, principal: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Means ``(N, 2)``, column and row in pixels, and covariances ``(N, 2, 2)``, square pixels, in the image."""
    turn = pose[:3, :3] * pose.new_tensor([1, -1, -1])  # columns: right, down, forward
    seen = (splats.means - pose[:3, 3]) @ turn
    depth = seen[:, 2:]
    slope = seen[:, :2] / depth
    near_slope = slope.minimum(_BEYOND * (size - principal) / focal).maximum(-_BEYOND * principal / focal)
    jacobian = pose.new_zeros(len(splats), 2, 3)
    jacobian[:, 0, 0], jacobian[:, 1, 1] = (focal / depth).unbind(dim=1)
    jacobian[:, :, 2] = -focal * near_slope / depth
    to_image = jacobian @ turn.T
    spread = to_image @ splats.covariances @ to_image.transpose(1, 2)
    return slope * focal + principal, spread + _WIDENING * torch.eye(2).to(spread)


def _composite(splats: Sequence[Tensor], width: int, height: int) -> tuple[Tensor, Tensor]:
    """What some splats, front to back, show in each pixel, row by row.

    Args:
        splats: ``(N, 6)`` column and row of the mean, xx, 2 xy and yy of the inverse covariance, halved and negative, opacity;
            ``(N, 2)`` int32 first column and row of a box of pixels, and its size; ``(N, 3)`` colour.
        width, height: size of the image.

    Returns:
        colour multiplied by opacity, and opacity ``(height * width, 4)``, and the share of light that passes ``(..., 1)``.
    """
    gaussians, first, count, colours = splats
    pairs = count.prod(dim=1)
    splat = torch.repeat_interleave(pairs)
    boxes = torch.cat([first, count[:, :1], (pairs.cumsum(0) - pairs).int()[:, None]], dim=1)
    left, top, wide, start = boxes.index_select(0, splat).unbind(dim=1)
    column = torch.arange(len(splat), dtype=torch.int32, device=splat.device).sub_(start)
    row = column.div(wide, rounding_mode="floor")
    column.addcmul_(row, wide, value=-1).add_(left)
    row.add_(top)
    x, y, xx, xy, yy, opacity = gaussians.index_select(0, splat).unbind(dim=1)
    x, y = column.add(0.5).sub_(x), row.add(0.5).sub_(y)
    exponent = (xx * x).addcmul_(xy, y).mul_(x).addcmul_(yy * y, y)
    shown = exponent.exp_().mul_(opacity).clamp_(max=_MOST)
    kept = (shown >= _LEAST).nonzero()[:, 0]
    # Stable: splats stay front to back in each pixel.
    pixel, order = row.mul_(width).add_(column).index_select(0, kept).sort(stable=True)
    kept = kept.index_select(0, order)
    shown, colour = shown.index_select(0, kept), colours.index_select(0, splat.index_select(0, kept))
    # The transmittance before each pair: the running product of what passes, over that at the first pair of its pixel
    passing = torch.log1p(-shown.double())
    running = passing.cumsum(0)
    counts = torch.bincount(pixel, minlength=width * height)
    ends = torch.cat([running.new_zeros(1), running])[counts.cumsum(0)]  # at the last pair of each pixel
    before = torch.cat([running.new_zeros(1), ends[:-1]])
    weight = (running - passing - before.index_select(0, pixel)).exp().float() * shown
    image = torch.zeros(width * height, 4, dtype=colour.dtype, device=colour.device)
    image.index_add_(0, pixel, torch.cat([colour * weight[:, None], weight[:, None]], dim=1))
    return image, (ends - before).exp().to(image)[:, None]
