"""Names for measured colours: the nearest of the names that procedural objects are coloured with, in OKLab.

OKLab (Ottosson 2020) is a space in which distances are about as large as differences look. Each name has one or several
anchors: what procedural objects call by it, and colours between or beyond those that people call the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .colours import srgb_to_linear
from .procedural.materials import COLOURS

BASIC: Mapping[str, str] = {
    "light grey": "grey", "dark grey": "grey", "dark red": "red", "dark brown": "brown", "light green": "green",
    "dark green": "green", "light blue": "blue", "dark blue": "blue",
}  # fmt: skip
"""Shade -> the colour it is one of; a name that is missing is one itself."""

MEAN_LIGHT = 0.84
"""Mean brightness of what is seen of an object under the light of `views`."""

_MORE: dict[str, tuple[tuple[int, int, int], ...]] = {
    "white": ((255, 255, 255),), "light grey": ((170, 170, 170), (212, 212, 212)), "grey": ((110, 110, 110),),
    "dark grey": ((88, 88, 88), (58, 58, 58)), "black": ((0, 0, 0),), "red": ((255, 0, 0), (220, 60, 60)),
    "dark red": ((90, 10, 16),), "orange": ((255, 150, 40), (215, 115, 35)),
    "yellow": ((255, 255, 0), (255, 236, 120), (190, 180, 30)),
    "beige": ((236, 220, 190), (205, 175, 130)), "brown": ((165, 110, 65), (150, 75, 30), (190, 140, 90)),
    "green": ((0, 255, 0), (0, 170, 0), (120, 140, 40)), "light green": ((170, 230, 150),), "dark green": ((60, 80, 30),),
    "turquoise": ((0, 255, 255), (0, 140, 140), (130, 225, 215)), "blue": ((0, 0, 255), (70, 110, 200)),
    "light blue": ((170, 205, 235),), "dark blue": ((10, 10, 90), (50, 70, 110)),
    "purple": ((160, 60, 200), (90, 30, 120), (190, 150, 220), (200, 0, 200)), "pink": ((255, 100, 180), (250, 200, 215)),
}  # fmt: skip

_CHROMA = 1.6
"""How much more a difference of hue or saturation counts than one of lightness: names tell greys from colours first."""

_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                 [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                 [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def basic_colour(name: str) -> str:
    """The colour that a shade is one of: "green" for "dark green"."""
    return BASIC.get(name, name)


def colour_names(rgb: ArrayLike) -> list[str]:
    """The names of colours ``(N, 3)``, sRGB in 0..1."""
    return [_NAMES[place] for place in _distances(rgb).argmin(axis=1)]


def clear_colour_name(rgb: ArrayLike, *, margin: float = 0.025) -> str | None:
    """The name of one colour ``(3,)``; None where one of another basic colour is as near but for `margin`."""
    distances = _distances(np.asarray(rgb)[None])[0]
    name = _NAMES[distances.argmin()]
    others = [d for d, n in zip(distances, _NAMES, strict=True) if basic_colour(n) != basic_colour(name)]
    return name if min(others) - distances.min() >= margin else None


def colour_shares(rgb: ArrayLike, weights: ArrayLike) -> dict[str, float]:
    """Name -> its share of the weight ``(N,)`` of colours ``(N, 3)``, the largest first; they add up to 1."""
    totals: dict[str, float] = {}
    weights = np.asarray(weights, np.float64)
    for name, weight in zip(colour_names(rgb), weights / weights.sum(), strict=True):
        totals[name] = totals.get(name, 0.0) + float(weight)
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def _oklab(rgb: ArrayLike) -> NDArray[np.float64]:
    return np.cbrt(srgb_to_linear(np.asarray(rgb, np.float64)) @ _LMS.T) @ _LAB.T * (1, _CHROMA, _CHROMA)


_NAMES = [name for name, rgb in COLOURS.items() for _ in (rgb, *_MORE.get(name, ()))]
_ANCHORS = _oklab(np.array([each for name, rgb in COLOURS.items() for each in (rgb, *_MORE.get(name, ()))]) / 255)


def _distances(rgb: ArrayLike) -> NDArray[np.float64]:
    difference = _oklab(rgb)[:, None] - _ANCHORS
    return np.sqrt((difference**2).sum(axis=-1))
