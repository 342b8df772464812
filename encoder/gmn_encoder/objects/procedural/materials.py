"""Named colours and small patterns, and the words that truthfully name them.

A texture is a `(32, 32, 3)` or so uint8 sRGB tile that repeats; `period` is its side in units of the object's frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .dice import Dice

Pattern = Literal["plain", "wood", "striped", "checked", "dotted", "picture"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (238, 238, 236), "light grey": (192, 194, 196), "grey": (134, 136, 140), "dark grey": (76, 78, 84),
    "black": (30, 31, 34), "red": (204, 40, 38), "dark red": (122, 22, 30), "orange": (236, 124, 32),
    "yellow": (240, 204, 48), "beige": (222, 204, 168), "brown": (128, 82, 48), "dark brown": (78, 50, 34),
    "light green": (138, 200, 104), "green": (52, 142, 64), "dark green": (26, 78, 46), "turquoise": (56, 184, 176),
    "light blue": (124, 186, 232), "blue": (40, 96, 200), "dark blue": (26, 44, 112), "purple": (124, 64, 164),
    "pink": (236, 140, 172),
}  # fmt: skip
VIVID = ("red", "orange", "yellow", "green", "light green", "turquoise", "light blue", "blue", "purple", "pink")
DEEP = ("dark red", "dark green", "dark blue", "dark brown", "dark grey", "black")
NEUTRAL = ("white", "light grey", "grey", "dark grey", "black", "beige")
METAL = ("light grey", "grey", "dark grey", "black", "white")
WOODS = ("brown", "dark brown", "beige")
ANY = tuple(COLOURS)

_SIMILAR = (
    ("white", "light grey", "beige"), ("light grey", "grey"), ("grey", "dark grey"), ("dark grey", "black"),
    ("black", "dark brown", "dark blue", "dark green"), ("red", "dark red", "orange"), ("orange", "yellow"), ("yellow", "beige"),
    ("brown", "dark brown", "dark red"), ("green", "dark green", "light green", "turquoise"), ("turquoise", "light blue"),
    ("light blue", "blue"), ("blue", "dark blue", "purple"), ("pink", "purple"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Material:
    """One surface: `look` is how it is named ("red and white striped"), `colours` the names in it, `tile` `(H, W, 3)` its texture
    (None: one plain `rgb`), `period` the side of the tile in units of the object."""

    look: str
    colours: tuple[str, ...]
    rgb: tuple[int, int, int]
    pattern: Pattern = "plain"
    tile: NDArray[np.uint8] | None = None
    period: float = 1.0


def distinct(colours: Sequence[str], *others: str) -> list[str]:
    """Those of `colours` that nobody would mistake for one of `others`."""
    near = {name for group in _SIMILAR for name in group if any(other in group for other in others)}
    return [name for name in colours if name not in near and name not in others]


def plain(dice: Dice, colours: Sequence[str] | str) -> Material:
    """One colour, a little off its namesake so that two red objects are not quite the same."""
    name = colours if isinstance(colours, str) else dice.choice(colours)
    return Material(name, (name,), _shade(dice, name))


def wood(dice: Dice, colours: Sequence[str] = WOODS, *, period: float = 0.4) -> Material:
    """Grain along u: bands of a lighter and a darker shade."""
    name = dice.choice(colours)
    base = np.array(_shade(dice, name), np.float64)
    rows, columns = np.mgrid[0:32, 0:32] / 32.0
    phase, waves = dice.uniform(0, 1), dice.integer(3, 5)
    wobble = 0.03 * np.sin(2 * math.pi * (columns + phase)) + 0.015 * np.sin(4 * math.pi * (columns + 2 * phase))
    grain = np.sin(2 * math.pi * waves * (rows + wobble)) + 0.5 * np.sin(
        2 * math.pi * (2 * waves + 1) * (rows - wobble)
    )
    tile = np.rint((base * (1 + 0.13 * grain[..., None])).clip(0, 255)).astype(np.uint8)
    return Material(f"{name} wood", (name,), _mean(tile), "wood", tile, period)


def striped(
    dice: Dice, first: Sequence[str] = ANY, second: Sequence[str] = ANY, *, period: float = 0.18, across: bool = False
) -> Material:
    """Two colours by turns: stripes along u, or along v with `across`."""
    a, b = _two(dice, first, second)
    tile = np.zeros((16, 16, 3), np.uint8)
    tile[:8], tile[8:] = _shade(dice, a), _shade(dice, b)
    tile = tile.transpose(1, 0, 2).copy() if across else tile
    return Material(f"{a} and {b} striped", (a, b), _mean(tile), "striped", tile, period)


def checked(dice: Dice, first: Sequence[str] = ANY, second: Sequence[str] = ANY, *, period: float = 0.22) -> Material:
    a, b = _two(dice, first, second)
    tile = np.zeros((16, 16, 3), np.uint8)
    tile[:] = _shade(dice, b)
    tile[:8, :8] = tile[8:, 8:] = _shade(dice, a)
    return Material(f"{a} and {b} checked", (a, b), _mean(tile), "checked", tile, period)


def dotted(dice: Dice, ground: Sequence[str] = ANY, dots: Sequence[str] = ANY, *, period: float = 0.13) -> Material:
    a, b = _two(dice, ground, dots)
    rows, columns = (np.mgrid[0:24, 0:24] + 0.5) / 24.0 - 0.5
    tile = np.where((rows**2 + columns**2 < 0.28**2)[..., None], _shade(dice, b), _shade(dice, a)).astype(np.uint8)
    return Material(f"{b}-dotted {a}", (a, b), _mean(tile), "dotted", tile, period)


def fabric(dice: Dice, colours: Sequence[str] = ANY, *, period: float = 0.18) -> Material:
    """Mostly plain, sometimes with a pattern."""
    kind = dice.weighted({"plain": 0.62, "striped": 0.14, "checked": 0.12, "dotted": 0.12})
    if kind == "striped":
        return striped(dice, colours, period=period, across=dice.chance(0.5))
    if kind == "checked":
        return checked(dice, colours, period=period * 1.2)
    if kind == "dotted":
        return dotted(dice, colours, period=period * 0.8)
    return plain(dice, colours)


def picture(look: str, colours: tuple[str, ...], image: NDArray[np.uint8]) -> Material:
    """An image for a `shapes.panel`, row 0 at the top."""
    return Material(look, colours, _mean(image), "picture", image, 1.0)


def darker(material: Material, share: float = 0.85) -> Material:
    """The same look a shade darker, so that a part stands out from what it lies on."""
    r, g, b = (int(channel * share) for channel in material.rgb)
    tile = None if material.tile is None else (material.tile * share).astype(np.uint8)
    return replace(material, rgb=(r, g, b), tile=tile)


def _two(dice: Dice, first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    a = dice.choice(first)
    return a, dice.choice(distinct(second, a) or distinct(ANY, a))


def _shade(dice: Dice, name: str) -> tuple[int, int, int]:
    r, g, b = (min(255, max(0, channel + dice.integer(-9, 9))) for channel in COLOURS[name])
    return r, g, b


def _mean(tile: NDArray[np.uint8]) -> tuple[int, int, int]:
    r, g, b = (int(channel) for channel in tile.reshape(-1, 3).mean(axis=0))
    return r, g, b
