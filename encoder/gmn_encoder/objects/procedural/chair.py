"""Chairs: four legs, a central column or a star with castors; solid, slatted or ladder backs."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import ANY, METAL, VIVID, Material, distinct, fabric, plain, wood
from .shapes import CORNERS, box, cylinder, ellipsoid, rod, rounded_box


def build(draft: Draft, dice: Dice) -> None:
    width, depth, height = dice.uniform(0.4, 0.52), dice.uniform(0.38, 0.48), dice.uniform(0.38, 0.48)
    frame = wood(dice) if dice.chance(0.5) else plain(dice, (*METAL, *VIVID))
    seat = dice.choice((fabric(dice), wood(dice), plain(dice, distinct(ANY, *frame.colours)), frame))
    round_seat = dice.chance(0.25)
    thickness = dice.uniform(0.035, 0.08)
    if round_seat:
        depth = width
        draft.add("seat", cylinder(width / 2, thickness, sides=28).moved(0, 0, height - thickness), seat)
    else:
        draft.add("seat", rounded_box((width, depth, thickness), 0.04, (0, 0, height - thickness / 2), bevel=0.4), seat)
    draft.say(seat_shape="round" if round_seat else "square")
    support = dice.weighted({"four legs": 0.66, "column": 0.17, "star": 0.17})
    _support(draft, dice, frame, support, width, depth, height - thickness)
    back = dice.weighted({"solid": 0.4, "vertical slats": 0.3, "horizontal slats": 0.3})
    tall = dice.uniform(0.36, 0.6)
    _back(draft, dice, seat, frame, back, width * (0.86 if round_seat else 0.98), depth, height, tall)
    arms = dice.chance(0.4)
    if arms:
        level = height + dice.uniform(0.16, 0.22)
        for side in (-1, 1):
            x = side * (width / 2 - 0.012)
            draft.add("armrests", rounded_box((0.05, depth * 0.86, 0.032), 0.015, (x, 0.02, level), axis=2), frame)
            post = rod((x, -depth * 0.3, height - thickness * 0.6), (x, -depth * 0.3, level), 0.016)
            draft.add("_arm posts", post, frame)
    draft.say(
        kind="chair", seat_shape="round" if round_seat else "square", support=support, back=back, arms=arms,
        high_back=tall > 0.5, low_back=tall < 0.43,
    )  # fmt: skip


def _support(draft: Draft, dice: Dice, frame: Material, kind: str, width: float, depth: float, height: float) -> None:
    if kind == "four legs":
        thick, splay = dice.uniform(0.018, 0.03), dice.uniform(0, 0.07)
        square, taper = dice.chance(0.5), dice.uniform(0.6, 1)
        reach = 0.3 if draft.parameters["seat_shape"] == "round" else 0.4
        x, y = width * reach, depth * reach
        for sx, sy in CORNERS:
            foot, top = (sx * (x + splay), sy * (y + splay), 0.0), (sx * x, sy * y, height)
            sides = 4 if square else 10
            draft.add("legs", rod(foot, top, thick * taper, top=thick, sides=sides), frame)
        if dice.chance(0.35):
            for sx in (-1, 1):
                low = height * 0.4
                at = x + splay * 0.6
                draft.add(
                    "_stretchers", rod((sx * at, -y - splay * 0.6, low), (sx * at, y + splay * 0.6, low), 0.013), frame
                )
        return
    metal = plain(dice, METAL)
    draft.add("column", cylinder(dice.uniform(0.028, 0.045), height - 0.03).moved(0, 0, 0.03), metal)
    if kind == "column":
        draft.add("base", cylinder(width * 0.44, 0.035, top=width * 0.3, sides=28), metal)
        return
    castors = plain(dice, distinct(("black", "dark grey"), *metal.colours) or ("white",))
    for k in range(5):
        arm = rod((0, 0, 0.07), (0, width * 0.52, 0.05), 0.024, top=0.016).turned(2, 72 * k + 18)
        draft.add("base", arm, metal)
        wheel = ellipsoid((0.024, 0.03, 0.03), (0, width * 0.52, 0.03), sides=10, rows=6).turned(2, 72 * k + 18)
        draft.add("castors", wheel, castors)


def _back(
    draft: Draft, dice: Dice, seat: Material, frame: Material, kind: str, width: float, depth: float, height: float, tall: float
) -> None:  # fmt: skip
    lean, y = dice.uniform(3, 14), depth / 2 - 0.03
    hinge = (0.0, y, height)
    if kind == "solid":
        gap = dice.choice((-0.02, -0.02, 0.1))
        shape = rounded_box(
            (width, 0.045, tall - gap), 0.07, (0, y, height + gap + (tall - gap) / 2), axis=1, bevel=0.25
        )
        draft.add("backrest", shape.turned(0, -lean, about=hinge), seat)
        if gap > 0:
            for x in (-width * 0.3, width * 0.3):
                post = rod((x, y + 0.015, height - 0.03), (x, y + 0.015, height + gap + 0.1), 0.016)
                draft.add("_back posts", post.turned(0, -lean, about=hinge), frame)
        return
    margin = 0.02
    for x in (-width / 2 + margin, width / 2 - margin):
        shape = box((0.036, 0.036, tall + 0.02), (x, y, height + tall / 2 - 0.01))
        draft.add("backrest", shape.turned(0, -lean, about=hinge), frame)
    count = dice.integer(2, 4) if kind == "horizontal slats" else dice.integer(3, 5)
    inner = width - 4 * margin
    if kind == "vertical slats":
        for z in (0.09, tall - 0.03):
            rail = box((inner + 0.03, 0.026, 0.055), (0, y, height + z))
            draft.add("backrest", rail.turned(0, -lean, about=hinge), frame)
        for k in range(count):
            x = inner * ((k + 0.5) / count - 0.5)
            slat = box((inner / count * 0.45, 0.02, tall - 0.12), (x, y, height + tall / 2 + 0.03))
            draft.add("_slats", slat.turned(0, -lean, about=hinge), frame)
    else:
        for k in range(count):
            z = tall * (k + 1) / count - 0.05
            rail = box((inner + 0.03, 0.026, min(0.075, tall / count * 0.55)), (0, y, height + z))
            draft.add("_slats", rail.turned(0, -lean, about=hinge), frame)
    draft.say(slats=count)
