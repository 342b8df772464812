"""Where in splats or points the object is: percentiles of what is opaque, never the lowest and highest, which floaters have."""

from __future__ import annotations

import torch
from torch import Tensor

from ...fields import Box

_TAIL = 0.005
_MARGIN = 0.06  # of the longest side: what the percentiles cut off the tips
_OPAQUE = 0.1
_FAR = 8.0  # how many times the middle half of an object's points may fit into all of them
_CENTRAL = 3.0  # of the middle half: what is taken of a scene that goes on


def find_extent(means: Tensor, opacities: Tensor, reach: Tensor) -> tuple[Box, bool, tuple[str, ...]]:
    """The box of the object among N splats.

    Along each axis it reaches from 0.5 to 99.5 % of the opaque means (by opacity), and a margin for tips and the splats'
    own size. Where that is far more than the middle half of them, as in captures with surroundings, three times the middle
    half is taken round the median.

    Args:
        means: ``(N, 3)``.
        opacities: ``(N,)``.
        reach: ``(N,)``, how far each splat is seen from its mean, about.

    Returns:
        the box; whether it holds (nearly) all there is; what there is to say about it.

    Raises:
        ValueError: nothing is opaque, or all of it in one place.
    """
    opaque = opacities >= _OPAQUE
    if not bool(opaque.any()):
        raise ValueError(
            f"no splat has an opacity of {_OPAQUE} or more (the highest is {float(opacities.max()):.3f}); expected an object"
        )
    shares = (_TAIL, 0.25, 0.5, 0.75, 1 - _TAIL)
    low, first, middle, third, high = (quantiles(means[opaque], opacities[opaque], share) for share in shares)
    half = third - first
    far = (high - low) > _FAR * half.clamp(min=1e-3 * float(half.max()))
    bounded = True
    notes: tuple[str, ...] = ()
    if bool(far.any()) and float(half.max()) > 0:
        around = _CENTRAL / 2 * half.max()
        low, high = torch.maximum(low, middle - around), torch.minimum(high, middle + around)
        bounded, notes = False, ("a scene that goes on far beyond its middle: its central region is taken",)
    side = (high - low).max()
    if not float(side) > 0:
        raise ValueError("all opaque splats are in one place; expected an object with an extent")
    margin = torch.maximum(_MARGIN * side, reach[opaque].median())
    low, high = low - margin, high + margin
    corners = [tuple(float(part) for part in corner) for corner in (low, high)]
    return (corners[0], corners[1]), bounded, notes  # type: ignore[return-value]


def quantiles(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """``(3,)``: along each axis the value of ``(N, 3)`` below which that share of the weights ``(N,)`` lies."""
    ordered, order = values.sort(dim=0)
    running = weights.double()[order].cumsum(dim=0)
    place = (running < share * running[-1]).sum(dim=0).clamp(max=len(values) - 1)
    return ordered.gather(0, place[None])[0]
