"""Loudspeakers: boxes with round drivers, and portable cylinders."""

from __future__ import annotations

from itertools import pairwise

from .dice import Dice
from .draft import Draft
from .materials import ANY, DEEP, METAL, NEUTRAL, VIVID, Material, distinct, dotted, plain, wood
from .shapes import CORNERS, Shape, box, cylinder, lathe, rod, rounded_box

# Kind: least and greatest width, depth, height and number of drivers.
_SIZES = {
    "floor speaker": ((0.22, 0.3), (0.26, 0.34), (0.85, 1.0), (2, 4)),
    "shelf speaker": ((0.42, 0.52), (0.34, 0.44), (0.66, 0.8), (1, 2)),
}


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"floor speaker": 0.35, "shelf speaker": 0.4, "portable speaker": 0.25})
    draft.say(kind=kind)
    if kind == "portable speaker":
        _portable(draft, dice)
        return
    *spans, span = _SIZES[kind]
    width, depth, height = (dice.uniform(low, high) for low, high in spans)
    drivers = dice.integer(*span)
    case = wood(dice) if dice.chance(0.45) else plain(dice, (*NEUTRAL, *DEEP, *VIVID))
    foot = dice.weighted({"none": 0.4, "four feet": 0.35, "stand": 0.25 if kind == "shelf speaker" else 0.0})
    lift = _foot(draft, dice, foot, width, depth)
    draft.add("case", rounded_box((width, depth, height), 0.02, (0, 0, lift + height / 2), axis=2), case)
    front = plain(dice, distinct(("black", "dark grey", "light grey", "beige", "white"), *case.colours))
    board = dice.chance(0.5)
    if board:
        draft.add("front", box((width * 0.94, 0.02, height * 0.95), (0, -depth / 2 - 0.006, lift + height / 2)), front)
    behind = front if board else case
    cone = plain(
        dice,
        distinct(("black", "dark grey", "white", "yellow", "red", "blue", "light grey", "orange"), *behind.colours),
    )
    rim = plain(
        dice,
        distinct(("light grey", "black", "white", "grey"), *cone.colours, *behind.colours)
        or distinct(ANY, *cone.colours, *behind.colours),
    )
    y = -depth / 2 - (0.014 if board else 0.0)
    slot = height / (drivers + 0.6)
    radius = min(width * 0.4, slot * 0.42) * dice.uniform(0.88, 1)
    for k in range(drivers):
        _driver(draft, cone, rim, radius, (0, y, lift + height * 0.04 + slot * (k + 0.5)))
    tweeter = dice.chance(0.7)
    if tweeter:
        small = min(radius * 0.5, slot * 0.25)
        dome = cylinder(small, 0.025, top=small * 0.6, sides=18).turned(0, 90)
        draft.add("tweeter", dome.moved(0, y, lift + height - slot * 0.32), rim)
    draft.say(drivers=drivers, tweeter=tweeter, foot=foot, board=board)


def _driver(draft: Draft, cone: Material, rim: Material, radius: float, place: tuple[float, float, float]) -> None:
    """A ring around a hollow cone with a cap in the middle; axis along -y."""
    # Outside wall, rim, then down into the cone: a lathe profile may come back inwards.
    ring = lathe([(radius, 0.0), (radius, 0.02), (radius * 0.8, 0.02), (radius * 0.78, 0.006)], sides=24, crease=20)
    draft.add("rims", ring.turned(0, 90).moved(*place), rim)
    bowl = lathe(
        [
            (radius * 0.8, 0.0),
            (radius * 0.8, 0.014),
            (radius * 0.3, 0.008),
            (radius * 0.3, 0.01),
            (radius * 0.2, 0.024),
            (0.002, 0.03),
        ],
        sides=24,
    )
    draft.add("drivers", bowl.turned(0, 90).moved(*place), cone)


def _foot(draft: Draft, dice: Dice, kind: str, width: float, depth: float) -> float:
    if kind == "none":
        return 0.0
    paint = plain(dice, METAL)
    if kind == "four feet":
        for x, y in CORNERS:
            place = (x * width * 0.38, y * depth * 0.38, 0)
            draft.add("feet", cylinder(0.026, 0.07, top=0.034, sides=12).moved(*place), paint)
        return 0.065
    draft.add("stand", rod((0, 0, 0.02), (0, 0, 0.38), 0.03), paint)
    draft.add("stand", box((width * 0.8, depth * 0.8, 0.025), (0, 0, 0.0125)), paint)
    draft.add("stand", box((width * 0.6, depth * 0.6, 0.02), (0, 0, 0.37)), paint)
    return 0.375


def _portable(draft: Draft, dice: Dice) -> None:
    radius, length = dice.uniform(0.15, 0.21), dice.uniform(0.6, 0.8)
    lying = dice.chance(0.6)
    ground = dice.choice((*VIVID, *NEUTRAL, "dark blue", "dark green"))
    mesh = dotted(dice, (ground,), ("black", "white", "dark grey"), period=0.055)
    ends = plain(dice, distinct(("black", "dark grey", "white", "red", "yellow", "light grey"), ground))

    def laid(shape: Shape) -> Shape:
        return shape.turned(1, 90).moved(-length / 2, 0, radius) if lying else shape

    draft.add("grille", laid(cylinder(radius, length, sides=30)), mesh)
    for level in (0.0, length):
        ring = lathe(
            [
                (radius * 0.9, level - 0.03),
                (radius * 1.05, level - 0.02),
                (radius * 1.05, level + 0.02),
                (radius * 0.9, level + 0.03),
            ],
            sides=30,
        )
        draft.add("end rings", laid(ring), ends)
    strap = dice.chance(0.5)
    if strap and lying:
        top, reach = 2 * radius + 0.1, length * 0.4
        points = [
            (-reach, 0.0, 2 * radius - 0.03),
            (-reach * 0.8, 0.0, top),
            (reach * 0.8, 0.0, top),
            (reach, 0.0, 2 * radius - 0.03),
        ]
        for begin, end in pairwise(points):
            draft.add("_handle", rod(begin, end, 0.018, sides=8), ends)
    else:
        dial = cylinder(radius * 0.45, 0.03, sides=18).moved(0, 0, length + 0.02)
        draft.add("_dial", laid(dial), ends)
    draft.say(lying=lying, handle=strap and lying)
