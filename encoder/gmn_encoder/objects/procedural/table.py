"""Tables: rectangular, round and hexagonal tops; legs, a column, panels or crossed legs."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import ANY, METAL, NEUTRAL, VIVID, Material, checked, distinct, plain, striped, wood
from .shapes import CORNERS, box, cylinder, lathe, rod, rounded_box


def build(draft: Draft, dice: Dice) -> None:
    form = dice.weighted({"rectangular": 0.45, "square": 0.15, "round": 0.27, "hexagonal": 0.13})
    low = dice.chance(0.4)
    width = dice.uniform(0.7, 0.85) if form != "rectangular" else dice.uniform(0.85, 1.05)
    depth = width * dice.uniform(0.5, 0.68) if form == "rectangular" else width
    height = dice.uniform(0.24, 0.34) if low else dice.uniform(0.46, 0.62)
    thick = dice.uniform(0.03, 0.06)
    top = dice.weighted({"wood": 0.5, "plain": 0.32, "checked": 0.09, "striped": 0.09})
    material = {
        "wood": lambda: wood(dice), "plain": lambda: plain(dice, ANY), "checked": lambda: checked(dice, ANY, period=0.3),
        "striped": lambda: striped(dice, ANY, period=0.24),
    }[top]()  # fmt: skip
    z = height - thick / 2
    if form in ("rectangular", "square"):
        draft.add("top", rounded_box((width, depth, thick), dice.uniform(0.01, 0.06), (0, 0, z)), material)
    else:
        sides = 36 if form == "round" else 6
        draft.add("top", cylinder(width / 2, thick, sides=sides).moved(0, 0, height - thick), material)
    frame = dice.choice((wood(dice), plain(dice, METAL), plain(dice, distinct((*VIVID, *NEUTRAL), *material.colours))))
    choices = {"four legs": 0.5, "column": 0.2, "side panels": 0.15, "crossed legs": 0.15}
    if form in ("round", "hexagonal"):
        choices = {"four legs": 0.25, "column": 0.45, "three legs": 0.3}
    support = dice.weighted(choices)
    _support(draft, dice, frame, support, width, depth, height - thick, round_top=form in ("round", "hexagonal"))
    shelf = support == "four legs" and form in ("rectangular", "square") and dice.chance(0.35)
    if shelf:
        level = height * dice.uniform(0.22, 0.38)
        draft.add(
            "shelf",
            box((width * 0.86, depth * 0.82, 0.024), (0, 0, level)),
            plain(dice, frame.colours) if frame.tile is None else frame,
        )
    drawers = (
        dice.integer(1, 3) if support == "four legs" and form == "rectangular" and not low and dice.chance(0.45) else 0
    )
    if drawers:
        _drawers(draft, dice, drawers, frame, width, depth, height - thick)
    draft.say(kind="table", shape=form, low=low, support=support, shelf=shelf, drawers=drawers)


def _support(
    draft: Draft, dice: Dice, frame: Material, kind: str, width: float, depth: float, height: float, *, round_top: bool
) -> None:  # fmt: skip
    thick = dice.uniform(0.022, 0.036)
    reach = 0.29 if round_top else 0.44
    if kind == "four legs":
        square, splay, taper = dice.chance(0.5), dice.uniform(0, 0.05), dice.uniform(0.55, 1)
        for x, y in CORNERS:
            foot = (x * (width * reach + splay), y * (depth * reach + splay - 0.01), 0.0)
            head = (x * width * reach, y * (depth * reach - 0.01), height)
            draft.add("legs", rod(foot, head, thick * taper, top=thick, sides=4 if square else 12), frame)
    elif kind == "three legs":
        for k in range(3):
            leg = rod((0, -width * 0.4, 0), (0, -width * 0.26, height), thick * 0.7, top=thick)
            draft.add("legs", leg.turned(2, 120 * k), frame)
    elif kind == "column":
        base = min(width, depth) * dice.uniform(0.26, 0.36)
        waist = dice.uniform(0.03, 0.07)
        profile = [(base, 0), (base, 0.02), (waist, 0.09), (waist, height * 0.8), (waist * 1.8, height)]
        draft.add("column", lathe(profile, sides=24), frame)
    elif kind == "side panels":
        for x in (-1, 1):
            draft.add("side panels", box((0.04, depth * 0.9, height), (x * width * 0.44, 0, height / 2)), frame)
    else:
        for x, slope in CORNERS:
            begin, end = (x * width * 0.4, slope * depth * 0.42, 0), (x * width * 0.4, -slope * depth * 0.4, height)
            draft.add("legs", rod(begin, end, thick, sides=4), frame)
        beam = rod((-width * 0.4, 0, height / 2), (width * 0.4, 0, height / 2), thick * 0.7)
        draft.add("_beam", beam, frame)


def _drawers(draft: Draft, dice: Dice, count: int, frame: Material, width: float, depth: float, height: float) -> None:
    tall, wide = 0.1, width * 0.84
    draft.add("_apron", box((wide, depth * 0.84, tall), (0, 0, height - tall / 2)), frame)
    fronts = plain(dice, distinct((*NEUTRAL, *VIVID, "brown"), *frame.colours, *draft.surfaces["top"].colours))
    knobs = plain(dice, distinct(("black", "white", "yellow"), *fronts.colours))
    label = "drawers" if count > 1 else "drawer"
    for k in range(count):
        x = wide * ((k + 0.5) / count - 0.5)
        y = -depth * 0.42 - 0.006
        draft.add(label, box((wide / count - 0.025, 0.022, tall - 0.022), (x, y, height - tall / 2)), fronts)
        draft.add("_knobs", cylinder(0.018, 0.03, sides=10).turned(0, 90).moved(x, y, height - tall / 2), knobs)
