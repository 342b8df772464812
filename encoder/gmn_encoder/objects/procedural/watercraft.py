"""Watercraft: sailing boats, motor boats, cargo ships and rowing boats. The bow points towards -y."""

from __future__ import annotations

import math

import numpy as np

from .dice import Dice
from .draft import Draft
from .materials import DEEP, METAL, NEUTRAL, VIVID, Material, distinct, plain, striped, wood
from .shapes import Shape, box, cylinder, loft, prism, rod


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"sailing boat": 0.3, "motor boat": 0.27, "cargo ship": 0.25, "rowing boat": 0.18})
    draft.say(kind=kind)
    {"sailing boat": _sailing, "motor boat": _motor, "cargo ship": _cargo, "rowing boat": _rowing}[kind](draft, dice)


def _hull(
    length: float, width: float, height: float, *, fullness: float, keel: float = 0.35, open_inside: float = 0.0
) -> Shape:
    """Cross sections along y, bow first; sharp at the bow, cut off at the stern, widest at the top.

    `fullness` 0..1: how quickly it widens. With `open_inside` (wall thickness) the loop turns inwards to a hollow inside.
    """
    sections = []
    for k in range(11):
        t = k / 10
        wide = (
            width
            / 2
            * (0.02 + 0.98 * min(1.0, math.sin(min(1.0, t / (0.75 - 0.45 * fullness)) * math.pi / 2)))
            * (1 - 0.25 * max(0.0, t - 0.7))
        )
        sheer = height * (1 + 0.28 * (1 - t) ** 3)
        floor = height * 0.75 * max(0.0, 1 - t / 0.22) ** 2
        outer = [
            (0.0, floor),
            (wide * keel, floor + height * 0.03),
            (wide * 0.8, floor + (sheer - floor) * 0.4),
            (wide, sheer),
        ]
        if open_inside:
            inner = max(wide - open_inside, wide * 0.5)
            deep = min(floor + open_inside, sheer - 0.004)
            outer += [(inner, sheer), (inner * 0.75, max(deep, sheer * 0.4)), (0.0, max(deep, floor + height * 0.2))]
        side = outer[1:-1] if open_inside else outer[1:]
        loop = [outer[0], *side, *([outer[-1]] if open_inside else []), *[(-x, z) for x, z in reversed(side)]]
        # Seen from the stern (the end) towards the bow: counter-clockwise around +y means from z towards x.
        sections.append(np.array([(-x, -length / 2 + t * length, z) for x, z in loop]))
    return loft(sections, caps=not open_inside, crease=35)


def _deck(length: float, width: float, height: float, *, fullness: float) -> Shape:
    hull = _hull(length * 0.985, width * 0.95, height, fullness=fullness)
    keep = hull.vertices.copy()
    keep[:, 2] = np.where(keep[:, 2] >= height * 0.97, keep[:, 2] + 0.012, np.maximum(keep[:, 2], height * 0.8))
    return Shape(keep, hull.faces, hull.normals, hull.uv)


def _decked_hull(
    draft: Draft, dice: Dice, length: float, width: float, height: float, *, fullness: float, keel: float = 0.35
) -> tuple[Material, Material]:
    """Add a hull and its deck, and return their materials."""
    hull = plain(dice, (*VIVID, *DEEP, "white", "white", "brown"))
    deck = (
        wood(dice, distinct(("beige", "brown"), *hull.colours) or ("beige",), period=0.2)
        if dice.chance(0.6)
        else plain(dice, distinct(NEUTRAL, *hull.colours))
    )
    draft.add("hull", _hull(length, width, height, fullness=fullness, keel=keel), hull)
    draft.add("deck", _deck(length, width, height, fullness=fullness), deck)
    return hull, deck


def _sailing(draft: Draft, dice: Dice) -> None:
    length, width, height = dice.uniform(0.75, 0.9), dice.uniform(0.22, 0.3), dice.uniform(0.1, 0.14)
    _, deck = _decked_hull(draft, dice, length, width, height, fullness=0.3)
    masts = 2 if dice.chance(0.25) else 1
    sail = (
        striped(dice, ("white", "beige"), VIVID, period=0.28)
        if dice.chance(0.3)
        else plain(dice, ("white", "white", "beige", *VIVID))
    )
    spars = wood(dice, ("brown", "dark brown")) if dice.chance(0.6) else plain(dice, METAL)
    jib = masts == 1 and dice.chance(0.6)
    positions = (-0.08,) if masts == 1 else (-0.18, 0.14)
    high = dice.uniform(0.75, 0.95) * (0.85 if masts == 2 else 1)
    for index, y in enumerate(positions):
        tall = high * (1 if index == 0 else 0.8)
        draft.add(
            "masts" if masts == 2 else "mast",
            rod((0, y, height * 0.8), (0, y, height + tall), 0.016, top=0.011, sides=8),
            spars,
        )
        foot, reach = height + 0.08, length * (0.4 if masts == 1 else 0.26)
        draft.add("_booms", rod((0, y, foot), (0, y + reach, foot), 0.011, sides=8), spars)
        outline = [(y + 0.02, foot + 0.01), (y + reach - 0.02, foot + 0.01), (y + 0.02, height + tall * 0.96)]
        sails = masts + jib
        draft.add("sails" if sails > 1 else "sail", prism(outline, 0.016), sail)
    if jib:
        outline = [
            (-length * 0.46, height * 1.35),
            (positions[0] - 0.03, height + 0.07),
            (positions[0] - 0.02, height + high * 0.75),
        ]
        draft.add("sails", prism(outline, 0.014), sail)
    cabin = dice.chance(0.5)
    if cabin:
        house = plain(dice, distinct(("white", "light grey", "beige"), *deck.colours) or ("white",))
        draft.add(
            "cabin",
            box((width * 0.5, length * 0.2, 0.08), (0, length * 0.16 + 0.02, height + 0.035), top=(0.8, 0.85)),
            house,
        )
    draft.say(masts=masts, sails=masts + jib, cabin=cabin)


def _motor(draft: Draft, dice: Dice) -> None:
    length, width, height = dice.uniform(0.9, 1.05), dice.uniform(0.28, 0.36), dice.uniform(0.13, 0.18)
    hull, _ = _decked_hull(draft, dice, length, width, height, fullness=0.45)
    house = plain(dice, distinct(("white", "light grey", "beige", "dark grey"), *hull.colours) or ("white",))
    glass = plain(dice, distinct(("black", "light blue", "dark blue"), *house.colours))
    decks = dice.integer(1, 3)
    z = height
    wide, long, back = width * 0.72, length * dice.uniform(0.4, 0.5), length * 0.06
    for _ in range(decks):
        tall = 0.1
        draft.add("cabin", box((wide, long, tall), (0, back, z + tall / 2), top=(0.92, 0.9)), house)
        draft.add(
            "windows", box((wide * 1.01, long * 0.96, tall * 0.4), (0, back, z + tall * 0.55), top=(0.97, 0.98)), glass
        )
        z += tall
        wide, long, back = wide * 0.82, long * 0.68, back + 0.03
    funnel = dice.chance(0.35)
    if funnel:
        draft.add(
            "funnel",
            cylinder(0.04, 0.12, top=0.035, sides=16).moved(0, back + 0.02, z - 0.01),
            plain(dice, distinct(VIVID, *house.colours)),
        )
    else:
        draft.add("_aerial", rod((0, back, z - 0.01), (0, back + 0.03, z + 0.15), 0.011, sides=8), plain(dice, METAL))
    draft.say(decks=decks, funnel=funnel)


def _cargo(draft: Draft, dice: Dice) -> None:
    length, width, height = dice.uniform(1.0, 1.1), dice.uniform(0.2, 0.26), dice.uniform(0.11, 0.15)
    hull, deck = _decked_hull(draft, dice, length, width, height, fullness=0.9, keel=0.75)
    house = plain(dice, distinct(("white", "beige", "light grey", "yellow"), *hull.colours))
    tall = dice.uniform(0.18, 0.26)
    draft.add("bridge", box((width * 0.8, 0.12, tall), (0, length * 0.36, height + tall / 2)), house)
    glass = plain(dice, distinct(("black", "dark blue"), *house.colours))
    draft.add("_bridge windows", box((width * 0.82, 0.125, 0.035), (0, length * 0.36, height + tall - 0.04)), glass)
    funnel = plain(dice, distinct((*VIVID, "black"), *house.colours))
    draft.add("funnel", cylinder(0.035, 0.12, sides=14).moved(0, length * 0.36 + 0.02, height + tall - 0.01), funnel)
    rows, layers = dice.integer(3, 5), dice.integer(1, 3)
    paints = [plain(dice, name) for name in dice.shuffled(distinct((*VIVID, "white", "brown"), *deck.colours))[:3]]
    names = tuple(paint.colours[0] for paint in paints)
    each = length * 0.62 / rows
    for row in range(rows):
        for layer in range(dice.integer(max(1, layers - 1), layers)):
            for column in (-1, 1):
                index = dice.integer(0, 2)
                place = (column * width * 0.21, -length * 0.33 + each * (row + 0.5), height + 0.045 + 0.075 * layer)
                draft.add(f"_containers {names[index]}", box((width * 0.4, each * 0.88, 0.072), place), paints[index])
    draft.say(container_rows=rows, cargo=True)


def _rowing(draft: Draft, dice: Dice) -> None:
    length, width, height = dice.uniform(0.95, 1.05), dice.uniform(0.34, 0.42), dice.uniform(0.14, 0.18)
    hull = (
        wood(dice, ("brown", "dark brown", "beige"), period=0.25)
        if dice.chance(0.5)
        else plain(dice, (*VIVID, "white", "dark green", "dark blue"))
    )
    draft.add("hull", _hull(length, width, height, fullness=0.3, keel=0.45, open_inside=0.03), hull)
    draft.add("_stern", box((width * 0.86, 0.03, height * 0.72), (0, length / 2 - 0.015, height * 0.62)), hull)
    seats = dice.integer(1, 3)
    planks = wood(dice, distinct(("beige", "brown", "dark brown"), *hull.colours) or ("beige",), period=0.2)
    for k in range(seats):
        y = length * (-0.14 + 0.46 * (k + 0.5) / seats)
        draft.add("benches" if seats > 1 else "bench", box((width * 0.86, 0.09, 0.022), (0, y, height * 0.78)), planks)
    oars = dice.chance(0.7)
    if oars:
        paint = plain(dice, distinct((*NEUTRAL, *VIVID), *hull.colours))
        begin, end = (width * 0.2, 0.0, height * 1.35), (width * 1.05, 0.14, height * 0.7)
        draft.pair("oars", rod(begin, end, 0.013, sides=8), paint)
        blade = box((0.17, 0.06, 0.016)).turned(1, 17).moved(width * 1.05 + 0.05, 0.146, height * 0.66)
        draft.pair("_blades", blade, paint)
    draft.say(seats=seats, oars=oars)
