"""Phones: smartphones, phones with keys, and folding phones."""

from __future__ import annotations

import numpy as np

from .dice import Dice
from .draft import Draft
from .materials import COLOURS, NEUTRAL, VIVID, Material, distinct, picture, plain
from .shapes import Shape, box, cylinder, panel, rod, rounded_box

# Phones stand upright, the screen towards -y.


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"smartphone": 0.45, "key phone": 0.35, "folding phone": 0.2})
    case = plain(dice, (*NEUTRAL, *VIVID, "dark blue", "dark red", "dark green"))
    draft.say(kind=kind)
    {"smartphone": _smartphone, "key phone": _key_phone, "folding phone": _folding_phone}[kind](draft, dice, case)


def _smartphone(draft: Draft, dice: Dice, case: Material) -> None:
    width, height, depth = dice.uniform(0.44, 0.54), dice.uniform(0.94, 1.06), dice.uniform(0.05, 0.075)
    draft.add(
        "case", rounded_box((width, depth, height), dice.uniform(0.03, 0.08), (0, 0, 0), axis=1, bevel=0.25), case
    )
    button = dice.chance(0.45)
    low, high = (0.13, 0.09) if button else (0.035, 0.05)
    tall = height - low - high
    screen = _icons(draft, dice, case)
    draft.add("screen", panel(width - 0.06, tall, 0.012, (0, -depth / 2 - 0.002, (low - high) / 2)), screen)
    if button:
        trim = plain(dice, distinct(("light grey", "black", "white"), *case.colours))
        draft.add(
            "home button",
            cylinder(0.04, 0.016, sides=20).turned(0, 90).moved(0, -depth / 2 + 0.004, -height / 2 + 0.066),
            trim,
        )
    lenses = dice.integer(1, 3)
    black = plain(dice, distinct(("black", "white"), *case.colours)[0])
    bump = distinct(("dark grey", "light grey", "white", "black"), *case.colours, *black.colours)
    plate = plain(dice, bump or ("grey",))
    spread = 0.1 * lenses
    draft.add(
        "_camera plate",
        rounded_box(
            (0.11, 0.022, spread + 0.04), 0.03, (width / 2 - 0.1, depth / 2, height / 2 - 0.07 - spread / 2), axis=1
        ),
        plate,
    )
    label = "camera lenses" if lenses > 1 else "camera lens"
    for k in range(lenses):
        lens = (
            cylinder(0.034, 0.026, sides=18)
            .turned(0, -90)
            .moved(width / 2 - 0.1, depth / 2, height / 2 - 0.12 - 0.1 * k)
        )
        draft.add(label, lens, black)
    draft.add("_side button", box((0.018, 0.03, 0.12), (width / 2 + 0.004, 0, height * 0.2)), case)
    draft.say(home_button=button, lenses=lenses)


def _icons(draft: Draft, dice: Dice, case: Material) -> Material:
    """A grid of app icons, a single colour, or dark."""
    content = dice.weighted({"icons": 0.55, "plain": 0.25, "off": 0.2})
    draft.say(content=content)
    image = np.zeros((64, 32, 3), np.uint8)
    if content == "off":
        name = "black" if not {"black", "dark grey", "dark blue", "dark green"} & set(case.colours) else "grey"
        image[:] = COLOURS[name]
        return picture(name, (name,), image)
    ground = dice.choice(distinct((*VIVID, "dark blue", "white"), *case.colours))
    image[:] = COLOURS[ground]
    if content == "plain":
        draft.say(ground=ground)
        return picture(ground, (ground,), image)
    columns, rows = dice.integer(2, 4), dice.integer(3, 6)
    paints = dice.shuffled(distinct((*VIVID, "white", "black"), ground))[:4]
    for row in range(rows):
        for column in range(columns):
            top, left = round(6 + row * 54 / rows), round(2 + column * 29 / columns)
            image[top : top + 6, left : left + round(16 / columns) + 1] = COLOURS[
                paints[(row * columns + column) % len(paints)]
            ]
    draft.say(ground=ground, icon_rows=rows, icon_columns=columns)
    return picture(ground, (ground,), image)


def _keys(
    draft: Draft, dice: Dice, case: Material, place: tuple[float, float, float], size: tuple[float, float], *, tilt: float = 0.0
) -> None:  # fmt: skip
    """A 3 x 4 key pad facing -y around `place`, then turned about the x axis by `tilt` degrees."""
    paint = plain(dice, distinct(("white", "black", "light grey", "yellow", "grey"), *case.colours))
    width, height = size
    for row in range(4):
        for column in range(3):
            x, z = (column - 1) * width / 3, (1.5 - row) * height / 4
            key = rounded_box(
                (width / 3 * 0.72, 0.024, height / 4 * 0.66), 0.015, (place[0] + x, place[1], place[2] + z), axis=1
            )
            draft.add("keys", key.turned(0, tilt), paint)


def _key_phone(draft: Draft, dice: Dice, case: Material) -> None:
    width, height, depth = dice.uniform(0.38, 0.48), dice.uniform(0.9, 1.0), dice.uniform(0.1, 0.15)
    draft.add("case", rounded_box((width, depth, height), dice.uniform(0.05, 0.14), axis=1, bevel=0.3), case)
    share = dice.uniform(0.24, 0.36)
    name = dice.choice(
        distinct(("light green", "light blue", "light grey", "orange", "dark blue", "beige", "black"), *case.colours)
    )
    draft.add(
        "screen",
        rounded_box((width * 0.76, 0.016, height * share), 0.02, (0, -depth / 2, height * (0.42 - share / 2)), axis=1),
        plain(dice, name),
    )
    low = height * (0.42 - share) - 0.05
    _keys(
        draft,
        dice,
        case,
        (0, -depth / 2 - 0.002, (low - height / 2 + 0.05) / 2),
        (width * 0.86, low + height / 2 - 0.06),
    )
    antenna = dice.chance(0.5)
    if antenna:
        stub = plain(dice, ("black", *case.colours))
        draft.add(
            "antenna",
            rod(
                (width * 0.34, 0, height / 2 - 0.03),
                (width * 0.34, 0, height / 2 + dice.uniform(0.1, 0.28)),
                0.026,
                top=0.02,
                sides=12,
            ),
            stub,
        )
    draft.say(antenna=antenna, keys=12)


def _folding_phone(draft: Draft, dice: Dice, case: Material) -> None:
    """Opened: the lower half lies towards the viewer, the upper leans back."""
    width, half, depth = dice.uniform(0.42, 0.5), dice.uniform(0.5, 0.58), 0.065
    upper = dice.uniform(-25, -8)
    lower = dice.uniform(42, 66)
    inner = plain(dice, distinct(("black", "white", "light grey", "dark grey"), *case.colours))
    for angle, sign in ((upper, 1), (lower, -1)):
        shell: Shape = rounded_box((width, depth, half), 0.06, (0, 0, sign * half / 2), axis=1, bevel=0.3)
        draft.add("case", shell.turned(0, angle if sign > 0 else -angle), case)
        face = rounded_box((width * 0.9, 0.012, half * 0.88), 0.04, (0, -depth / 2, sign * half / 2), axis=1)
        draft.add("inside", face.turned(0, angle if sign > 0 else -angle), inner)
    draft.add("_hinge", rod((-width * 0.42, 0, 0), (width * 0.42, 0, 0), 0.05, sides=14), case)
    name = dice.choice(distinct((*VIVID, "dark blue"), *inner.colours))
    screen = box((width * 0.68, 0.014, half * 0.6), (0, -depth / 2 - 0.006, half * 0.5))
    draft.add("screen", screen.turned(0, upper), plain(dice, name))
    _keys(draft, dice, inner, (0, -depth / 2 - 0.008, -half * 0.5), (width * 0.76, half * 0.72), tilt=-lower)
    draft.say(keys=12)
