"""Benches: planks or a slab, with or without a back."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import ANY, METAL, VIVID, Material, distinct, plain, wood
from .shapes import CORNERS, box, prism, rounded_box, tube


def build(draft: Draft, dice: Dice) -> None:
    width, depth, height = dice.uniform(0.8, 1.1), dice.uniform(0.26, 0.36), dice.uniform(0.26, 0.36)
    seat = wood(dice) if dice.chance(0.65) else plain(dice, ANY)
    frame = dice.choice((plain(dice, METAL), plain(dice, distinct(VIVID, *seat.colours)), wood(dice)))
    if frame.look == seat.look:
        frame = plain(dice, distinct(METAL, *seat.colours))
    planks = dice.choice((1, 2, 3, 4))
    thickness = dice.uniform(0.03, 0.05)
    _slats(draft, "seat", seat, planks, width, depth, (0, 0, height), thickness)
    back = dice.weighted({"none": 0.3, "planks": 0.5, "solid": 0.2})
    lean = dice.uniform(6, 16)
    if back != "none":
        tall = dice.uniform(0.26, 0.4)
        rows = dice.integer(2, 4) if back == "planks" else 1
        each, gap = tall / rows, 0.035 if rows > 1 else 0.0
        draft.say(back_planks=rows)
        for row in range(rows):
            z = height + 0.07 + each * (row + 0.5)
            plank = box((width, 0.028, each - gap), (0, depth / 2 - 0.01, z))
            draft.add("backrest", plank.turned(0, -lean, about=(0, depth / 2, height)), seat)
        for x in (-0.38, 0.38):
            post = box((0.045, 0.03, tall + 0.1), (width * x, depth / 2 + 0.02, height + tall / 2 + 0.02))
            draft.add("_posts", post.turned(0, -lean, about=(0, depth / 2, height)), frame)
    arms = back != "none" and dice.chance(0.5)
    legs = dice.weighted({"four legs": 0.35, "side panels": 0.3, "bent frames": 0.35})
    _legs(draft, frame, legs, width, depth, height - thickness / 2, dice)
    if arms:
        for x in (-1, 1):
            side = x * (width / 2 - 0.03)
            draft.add("armrests", box((0.055, depth * 0.95, 0.035), (side, 0, height + 0.19)), frame)
            draft.add("_arm posts", box((0.04, 0.04, 0.19), (side, -depth * 0.36, height + 0.095)), frame)
    draft.say(kind="bench", planks=planks, back=back, arms=arms, support=legs)


def _slats(
    draft: Draft, label: str, material: Material, count: int, width: float, depth: float, centre: tuple[float, float, float],
    thickness: float,
) -> None:  # fmt: skip
    gap = 0.022 if count > 1 else 0.0
    each = (depth + gap) / count - gap
    for index in range(count):
        y = centre[1] - depth / 2 + each / 2 + index * (each + gap)
        shape = rounded_box((width, each, thickness), 0.01, (centre[0], y, centre[2]), axis=2)
        draft.add(label, shape, material)


def _legs(draft: Draft, frame: Material, kind: str, width: float, depth: float, height: float, dice: Dice) -> None:
    inset = dice.uniform(0.04, 0.14)
    if kind == "four legs":
        size = dice.uniform(0.04, 0.065)
        for x, y in CORNERS:
            place = (x * (width / 2 - inset), y * (depth / 2 - size / 2), height / 2)
            draft.add("legs", box((size, size, height), place), frame)
    elif kind == "side panels":
        foot = depth * dice.uniform(0.8, 1.1) / 2
        top, waist = depth * 0.46, depth * dice.uniform(0.25, 0.45)
        outline = [(-foot, 0), (foot, 0), (waist, height * 0.5), (top, height), (-top, height), (-waist, height * 0.5)]
        draft.pair("side supports", prism(outline, dice.uniform(0.045, 0.08)).moved(width / 2 - inset), frame)
    else:
        reach, bar = depth * 0.44, dice.uniform(0.02, 0.026)
        path = [(0, -reach, height), (0, -reach, bar), (0, reach, bar), (0, reach, height)]
        draft.pair("frames", tube(path, bar, square=True).moved(width / 2 - inset), frame)
