"""Displays: monitors and television sets, switched on or off."""

from __future__ import annotations

import numpy as np

from .dice import Dice
from .draft import Draft
from .materials import COLOURS, METAL, NEUTRAL, VIVID, Material, distinct, picture, plain, wood
from .shapes import box, cylinder, panel, rod, rounded_box

_FORMS = {"wide": (1.0, 0.58), "very wide": (1.08, 0.46), "nearly square": (0.86, 0.7), "upright": (0.55, 0.92)}


def build(draft: Draft, dice: Dice) -> None:
    tube = dice.chance(0.2)
    kind = "tube television" if tube else "flat screen"
    form = (
        "nearly square"
        if tube
        else dice.weighted({"wide": 0.5, "very wide": 0.2, "nearly square": 0.18, "upright": 0.12})
    )
    width, height = (side * dice.uniform(0.92, 1.05) for side in _FORMS[form])
    case = (
        plain(dice, (*NEUTRAL, *NEUTRAL, *VIVID))
        if not tube or dice.chance(0.5)
        else wood(dice, ("brown", "dark brown"))
    )
    border = dice.uniform(0.03, 0.075) * (1.4 if tube else 1)
    depth = 0.1 if tube else dice.uniform(0.035, 0.06)
    stand = (
        dice.weighted({"none": 0.35, "four legs": 0.4, "antenna": 0.25})
        if tube
        else dice.weighted({"round base": 0.3, "rectangular base": 0.35, "two feet": 0.35})
    )
    lift = {"round base": 0.2, "rectangular base": 0.18, "two feet": 0.09, "four legs": 0.22}.get(stand, 0.0)
    lift *= dice.uniform(0.8, 1.2)
    middle = lift + height / 2
    draft.add("frame", rounded_box((width, depth, height), 0.03, (0, 0, middle), axis=1, bevel=0.2), case)
    screen = _screen(draft, dice, case)
    chin = 0.05 if tube else 0.0
    draft.add(
        "screen",
        panel(width - 2 * border - chin * 3, height - 2 * border, 0.012, (-chin * 1.3, -depth / 2 - 0.003, middle)),
        screen,
    )
    if tube:
        deep = dice.uniform(0.28, 0.4)
        draft.add(
            "_back",
            box((width * 0.94, height * 0.94, deep), top=(0.55, 0.55))
            .turned(0, -90)
            .moved(0, depth / 2 + deep / 2, middle),
            case,
        )
        knobs = dice.integer(2, 3)
        paint = plain(dice, distinct(("white", "black", "light grey", "yellow"), *case.colours))
        for k in range(knobs):
            place = (width / 2 - border - 0.03, -depth / 2, middle + height * (0.25 - 0.2 * k))
            draft.add("knobs", cylinder(0.032, 0.03, sides=14).turned(0, 90).moved(*place), paint)
        draft.say(knobs=knobs)
    _stand(draft, dice, stand, case, width, depth, lift, middle + height / 2)
    draft.say(kind=kind, form=form, stand=stand)


def _screen(draft: Draft, dice: Dice, case: Material) -> Material:
    """Dark, one colour, two halves, a landscape or windows."""
    content = dice.weighted({"off": 0.25, "landscape": 0.25, "halves": 0.15, "windows": 0.2, "bars": 0.15})
    image = np.zeros((48, 64, 3), np.uint8)
    draft.say(content=content)
    if content == "off":
        name = "black" if "black" not in case.colours and "dark grey" not in case.colours else "dark blue"
        image[:] = COLOURS[name]
        return picture(name, (name,), image)
    if content == "landscape":
        sky, ground = (
            dice.choice(("light blue", "orange", "pink", "dark blue")),
            dice.choice(("green", "dark green", "beige", "brown")),
        )
        sun = dice.choice(("yellow", "white"))
        hills = 30 - 6 * np.sin(np.arange(64) / dice.uniform(6, 12) + dice.uniform(0, 6))
        rows, columns = np.mgrid[0:48, 0:64]
        image[:] = COLOURS[sky]
        image[(rows - 11) ** 2 + (columns - dice.integer(12, 52)) ** 2 < 50] = COLOURS[sun]
        image[rows > hills[None, :]] = COLOURS[ground]
        draft.say(sky=sky, ground=ground, sun=sun)
        return picture(f"{sky} and {ground}", (sky, ground, sun), image)
    if content == "halves":
        first = dice.choice(VIVID)
        second = dice.choice(distinct((*VIVID, "white"), first))
        image[:, :32], image[:, 32:] = COLOURS[first], COLOURS[second]
        draft.say(first=first, second=second)
        return picture(f"{first} and {second}", (first, second), image)
    if content == "bars":
        bars = dice.integer(3, 6)
        names = dice.shuffled(("white", "yellow", "turquoise", "green", "pink", "red", "blue"))[:bars]
        for column in range(64):
            image[:, column] = COLOURS[names[column * bars // 64]]
        draft.say(bars=bars)
        return picture("colourful", tuple(names), image)
    ground = dice.choice(("blue", "dark blue", "turquoise", "purple", "green", "light grey"))
    pane = dice.choice(distinct(("white", "yellow", "light blue"), ground))
    image[:] = COLOURS[ground]
    panes = dice.integer(1, 2)
    for k in range(panes):
        left, top = (6 + 30 * k, 6 + 4 * k) if panes == 2 else (14, 10)
        image[top : top + 26, left : left + (22 if panes == 2 else 36)] = COLOURS[pane]
    draft.say(ground=ground, pane=pane, panes=panes)
    return picture(f"{ground} and {pane}", (ground, pane), image)


def _stand(
    draft: Draft, dice: Dice, kind: str, case: Material, width: float, depth: float, lift: float, top: float
) -> None:
    paint = plain(dice, case.colours if dice.chance(0.5) else METAL)
    if kind in ("round base", "rectangular base"):
        draft.add("stand", box((0.09, 0.035, lift + 0.14), (0, depth / 2 + 0.012, (lift + 0.14) / 2)), paint)
        if kind == "round base":
            draft.add("stand", cylinder(dice.uniform(0.16, 0.22), 0.022, sides=28), paint)
        else:
            draft.add("stand", rounded_box((dice.uniform(0.3, 0.5), 0.24, 0.022), 0.02, (0, 0, 0.011)), paint)
    elif kind == "two feet":
        for x in (-1, 1):
            at = x * width * 0.33
            draft.add("feet", rod((at, 0, lift + 0.02), (at + x * 0.02, -0.13, 0.012), 0.014, sides=8), paint)
            draft.add("feet", rod((at, 0, lift + 0.02), (at + x * 0.02, 0.13, 0.012), 0.014, sides=8), paint)
    elif kind == "four legs":
        wooden = wood(dice)
        for x in (-1, 1):
            for y in (0.02, 0.26):
                begin, end = (x * width * 0.3, y, lift + 0.03), (x * width * 0.38, y * 1.2, 0)
                draft.add("legs", rod(begin, end, 0.024, top=0.016), wooden)
    elif kind == "antenna":
        for x in (-1, 1):
            draft.add("antenna", rod((0, 0.12, top - 0.02), (x * 0.26, 0.12, top + 0.28), 0.012, sides=8), paint)
