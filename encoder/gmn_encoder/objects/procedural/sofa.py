"""Sofas: two to four seats, straight or with a chaise, with cushions."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import ANY, DEEP, METAL, NEUTRAL, VIVID, distinct, fabric, plain, wood
from .shapes import CORNERS, Shape, cylinder, rod, rounded_box


def build(draft: Draft, dice: Dice) -> None:
    seats = dice.integer(2, 4)
    each = {2: 0.36, 3: 0.29, 4: 0.235}[seats] * dice.uniform(0.95, 1.08)
    width, depth = each * seats, dice.uniform(0.3, 0.36)
    cover = fabric(dice, ANY, period=0.2)
    base = cover if dice.chance(0.5) else plain(dice, distinct((*NEUTRAL, *DEEP, "brown"), *cover.colours))
    foot = dice.uniform(0.035, 0.1)
    level = foot + dice.uniform(0.1, 0.14)
    tall = dice.uniform(0.22, 0.36)
    draft.add("base", rounded_box((width, depth, level - foot), 0.02, (0, 0, (level + foot) / 2)), base)
    cushion = dice.uniform(0.07, 0.1)
    chaise = dice.chance(0.25) and seats > 2
    side = dice.choice((-1, 1))
    for k in range(seats):
        x = each * (k - (seats - 1) / 2)
        long = chaise and k == (0 if side < 0 else seats - 1)
        extra = depth * 0.75 if long else 0.0
        size = (each - 0.012, depth - 0.06 + extra, cushion)
        draft.add(
            "seat cushions", rounded_box(size, 0.035, (x, -0.04 - extra / 2, level + cushion / 2), bevel=0.7), cover
        )
        if long:
            lower = rounded_box((each, extra, level - foot), 0.02, (x, -depth / 2 - extra / 2, (level + foot) / 2))
            draft.add("base", lower, base)
        back = rounded_box(
            (each - 0.012, 0.09, tall), 0.04, (x, depth / 2 - 0.1, level + cushion + tall / 2 - 0.02), axis=1, bevel=0.6
        )
        draft.add("back cushions", back.turned(0, -9, about=(0, depth / 2 - 0.1, level + cushion)), cover)
    panel = rounded_box(
        (width, 0.07, level + tall * 0.85 - foot), 0.02, (0, depth / 2 - 0.015, foot + (level + tall * 0.85 - foot) / 2)
    )
    draft.add("backrest", panel, base)
    arms = dice.weighted({"boxy": 0.45, "rounded": 0.35, "none": 0.2})
    _arms(draft, dice, arms, width, depth, foot, level + cushion)
    pillows = dice.integer(0, 3)
    _pillows(draft, dice, pillows, cover.colours, width, depth, level + cushion)
    _feet(draft, dice, width, depth, foot)
    draft.say(kind="sofa", seats=seats, arms=arms, pillows=pillows, chaise=chaise)
    if chaise:
        draft.say(chaise_end="left" if side < 0 else "right")


def _arms(draft: Draft, dice: Dice, kind: str, width: float, depth: float, foot: float, level: float) -> None:
    material = draft.surfaces["base"]
    thick, high = dice.uniform(0.07, 0.11), dice.uniform(0.07, 0.14)
    if kind == "none":
        return
    for x in (-1, 1):
        at = x * (width + thick) / 2
        tall = level + high - foot
        if kind == "boxy":
            draft.add("armrests", rounded_box((thick, depth, tall), 0.015, (at, 0, foot + tall / 2)), material)
            continue
        lower = rounded_box((thick * 0.85, depth, tall - thick / 2), 0.015, (at, 0, foot + (tall - thick / 2) / 2))
        draft.add("armrests", lower, material)
        roll = cylinder(thick * 0.62, depth, sides=18).turned(0, -90).moved(at, -depth / 2, level + high - thick * 0.5)
        draft.add("armrests", roll, material)


def _pillows(
    draft: Draft, dice: Dice, count: int, near: tuple[str, ...], width: float, depth: float, level: float
) -> None:
    material = plain(dice, distinct((*VIVID, "white", "black"), *near))
    label = "pillows" if count > 1 else "pillow"
    for x in [0.36, -0.36, 0.08][:count]:
        size = dice.uniform(0.15, 0.18)
        shape: Shape = rounded_box((size, 0.075, size), 0.05, axis=1, bevel=0.9).turned(1, dice.uniform(-12, 12))
        draft.add(label, shape.turned(0, -20).moved(width * x, depth / 2 - 0.215, level + size * 0.5), material)


def _feet(draft: Draft, dice: Dice, width: float, depth: float, foot: float) -> None:
    material = wood(dice) if dice.chance(0.5) else plain(dice, METAL)
    for x, y in CORNERS:
        top = (x * (width / 2 - 0.04), y * (depth / 2 - 0.04), foot + 0.01)
        draft.add("_feet", rod(top, (top[0], top[1], 0), 0.022, top=0.018, sides=8), material)
