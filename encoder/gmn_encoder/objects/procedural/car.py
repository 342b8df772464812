"""Cars: sedans, hatchbacks, sports cars, vans and pickup trucks."""

from __future__ import annotations

import math

import numpy as np

from .dice import Dice
from .draft import Draft
from .materials import METAL, VIVID, Material, distinct, plain
from .shapes import Shape, box, cylinder, lathe, loft, prism, rod

# Kind: length, width, body height, bonnet height share, cabin (rear end, rear roof, front roof, front end) in shares of the
# length from the tail, cabin height. y grows towards the tail.
_KINDS = {
    "sedan": (1.0, 0.4, 0.17, 0.82, (0.12, 0.25, 0.55, 0.72), 0.13),
    "hatchback": (0.86, 0.4, 0.18, 0.85, (0.02, 0.1, 0.55, 0.74), 0.15),
    "sports car": (1.0, 0.43, 0.13, 0.7, (0.12, 0.34, 0.52, 0.7), 0.1),
    "van": (1.0, 0.42, 0.24, 0.85, (0.005, 0.015, 0.74, 0.9), 0.19),
    "pickup truck": (1.05, 0.42, 0.18, 0.88, (0.42, 0.45, 0.66, 0.76), 0.16),
}


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"sedan": 0.28, "hatchback": 0.22, "sports car": 0.16, "van": 0.17, "pickup truck": 0.17})
    length, width, tall, bonnet, cabin, roof = _KINDS[kind]
    length, width, tall, roof = (value * dice.uniform(0.93, 1.07) for value in (length, width, tall, roof))
    radius = dice.uniform(0.085, 0.1) * (0.92 if kind == "sports car" else 1.05)
    clearance = radius * 0.75
    paint = plain(
        dice, (*VIVID, "white", "black", "grey", "light grey", "dark blue", "dark red", "dark green", "beige")
    )
    draft.say(kind=kind)
    body, axles = _body(length, width, tall, bonnet, radius, clearance, bed=kind == "pickup truck", dice=dice)
    draft.add("body", body, paint)
    top = clearance + tall
    two_tone = dice.chance(0.3)
    roof_paint = plain(dice, distinct(("white", "black", "grey", *VIVID), *paint.colours)) if two_tone else paint
    _cabin(draft, dice, length, width, top, cabin, roof, roof_paint)
    rubber, rims = (
        plain(dice, "black"),
        plain(dice, distinct(("light grey", "white", "grey", "yellow", "red"), *paint.colours)),
    )
    for y in axles:
        draft.pair("wheels", _wheel(radius, 0.085).moved(width / 2 - 0.07, y, radius), rubber)
        draft.pair(
            "rims", cylinder(radius * 0.6, 0.01, sides=16).turned(1, 90).moved(width / 2 + 0.013, y, radius), rims
        )
    _details(draft, dice, kind, length, width, top, tall, bonnet, clearance, roof, cabin, paint)
    draft.say(two_tone=two_tone, wheels=4)


def _wheel(radius: float, width: float) -> Shape:
    return lathe([(radius * 0.9, 0), (radius, 0.012), (radius, width - 0.012), (radius * 0.9, width)], sides=20).turned(
        1, 90
    )


def _body(
    length: float, width: float, tall: float, bonnet: float, radius: float, clearance: float, *, bed: bool, dice: Dice
) -> tuple[Shape, tuple[float, float]]:  # fmt: skip
    """Side view, extruded: arches over the wheels, a bonnet that falls towards the front."""
    half = length / 2
    axles = (-half + length * 0.19, half - length * 0.2)
    arch = radius * 1.13
    outline: list[tuple[float, float]] = [(-half, clearance + 0.03), (-half + 0.02, clearance)]
    for axle in axles:  # along the bottom, towards the tail (y grows)
        drop = clearance - radius
        reach = math.sqrt(max(arch**2 - drop**2, 0))
        start = math.atan2(drop, -reach)
        end = math.atan2(drop, reach)
        for k in range(9):
            angle = (start if start > 0 else start + 2 * math.pi) + (
                end - (start if start > 0 else start + 2 * math.pi)
            ) * k / 8
            outline.append((axle + arch * math.cos(angle), radius + arch * math.sin(angle)))
    top = clearance + tall
    outline += [(half - 0.02, clearance), (half, clearance + 0.04), (half - 0.005, top - 0.03), (half - 0.03, top)]
    if bed:
        deep = top - tall * 0.42
        outline += [(half - 0.035, deep), (half - length * 0.4, deep), (half - length * 0.41, top)]
    outline += [
        (-half + length * 0.3, top),
        (-half + 0.05, clearance + tall * bonnet),
        (-half, clearance + tall * bonnet * 0.75),
    ]
    return prism(outline, width, axis=0, inset=0.04), axles


def _cabin(
    draft: Draft, dice: Dice, length: float, width: float, top: float, cabin: tuple[float, ...], roof: float, paint: Material
) -> None:  # fmt: skip
    """A glass house (dark) between body and roof, with pillars in the roof's colour."""
    rear, rear_roof, front_roof, front = (length / 2 - share * length for share in cabin)
    glass = plain(dice, ("black", "dark grey", "light blue", "dark blue"))
    low, high = width * 0.94, width * 0.8
    z = top - 0.005

    def ring(level: float, wide: float, start: float, end: float) -> np.ndarray:
        return np.array(
            [(-wide / 2, start, level), (wide / 2, start, level), (wide / 2, end, level), (-wide / 2, end, level)]
        )

    draft.add(
        "windows",
        loft([ring(z, low, front, rear), ring(z + roof * 0.86, high, front_roof, rear_roof)], crease=0),
        glass,
    )
    draft.add(
        "roof",
        loft(
            [
                ring(z + roof * 0.82, high * 1.03, front_roof - 0.012, rear_roof + 0.01),
                ring(z + roof, high * 0.94, front_roof + 0.012, rear_roof - 0.01),
            ],
            crease=0,
        ),
        paint,
    )
    middle = (rear_roof + front_roof) / 2 + length * 0.02
    for foot, head in ((front, front_roof), (rear, rear_roof), (middle, middle)):
        begin, end = (low / 2 - 0.002, foot, z), (high / 2, head, z + roof * 0.86)
        draft.pair("_pillars", rod(begin, end, 0.014, sides=6), paint)


def _details(
    draft: Draft, dice: Dice, kind: str, length: float, width: float, top: float, tall: float, bonnet: float, clearance: float,
    roof: float, cabin: tuple[float, ...], paint: Material,
) -> None:  # fmt: skip
    half = length / 2
    lamp, red = (
        plain(dice, "yellow" if "white" in paint.colours or "light grey" in paint.colours else "white"),
        plain(dice, "red"),
    )
    if "red" in paint.colours or "orange" in paint.colours or "dark red" in paint.colours:
        red = plain(dice, "yellow")
    level = clearance + tall * bonnet * 0.6
    draft.pair("headlights", box((width * 0.2, 0.02, tall * 0.2), (width * 0.33, -half + 0.002, level)), lamp)
    draft.pair("tail lights", box((width * 0.14, 0.02, tall * 0.2), (width * 0.37, half, clearance + tall * 0.62)), red)
    trim = plain(dice, distinct(METAL, *paint.colours))
    draft.add("_bumpers", box((width * 0.96, 0.05, 0.04), (0, -half + 0.005, clearance + 0.03)), trim)
    draft.add("_bumpers", box((width * 0.96, 0.05, 0.04), (0, half - 0.005, clearance + 0.04)), trim)
    roof_z, roof_y = top + roof - 0.005, half - length * (cabin[1] + cabin[2]) / 2
    extra = dice.weighted(
        {
            "none": 0.35,
            "spoiler": 0.35 if kind in ("sports car", "sedan") else 0.0,
            "roof rack": 0.3 if kind != "sports car" else 0.0,
            "roof sign": 0.15 if kind in ("sedan", "hatchback") else 0.0,
            "light bar": 0.15,
        }
    )
    if extra == "spoiler":
        wing = plain(dice, (*paint.colours, "black"))
        draft.add("spoiler", box((width * 0.86, 0.08, 0.018), (0, half - 0.05, top + 0.065)), wing)
        draft.pair("_spoiler posts", box((0.02, 0.04, 0.08), (width * 0.3, half - 0.055, top + 0.025)), wing)
    elif extra == "roof rack":
        rack = plain(dice, distinct(("black", "light grey"), *paint.colours) or ("grey",))
        for offset in (-0.09, 0.06):
            draft.add("roof rack", box((width * 0.78, 0.03, 0.025), (0, roof_y + offset, roof_z + 0.025)), rack)
        draft.pair("roof rack", box((0.025, 0.22, 0.025), (width * 0.34, roof_y - 0.015, roof_z + 0.02)), rack)
    elif extra == "roof sign":
        sign = plain(dice, distinct(("yellow", "white", "orange"), *paint.colours))
        draft.add("roof sign", box((width * 0.36, 0.06, 0.05), (0, roof_y, roof_z + 0.025), top=(0.85, 0.7)), sign)
    elif extra == "light bar":
        bar = plain(dice, distinct(("blue", "orange", "red"), *paint.colours))
        draft.add("light bar", box((width * 0.62, 0.05, 0.04), (0, roof_y, roof_z + 0.02)), bar)
    draft.say(extra=extra)
