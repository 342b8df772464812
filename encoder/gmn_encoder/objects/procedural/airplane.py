"""Airliners, propeller planes (some with two pairs of wings) and fighter jets."""

from __future__ import annotations

import numpy as np

from .dice import Dice
from .draft import Draft
from .materials import COLOURS, DEEP, NEUTRAL, VIVID, Material, distinct, picture, plain
from .shapes import Shape, box, circle, cylinder, ellipsoid, lathe, loft, prism, rod

_BODY_COLOURS = ("white", "white", "light grey", "grey", *VIVID, "dark blue", "dark green", "beige")


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"airliner": 0.45, "propeller plane": 0.3, "fighter jet": 0.25})
    draft.say(kind=kind)
    {"airliner": _airliner, "propeller plane": _propeller_plane, "fighter jet": _fighter}[kind](draft, dice)


def _fuselage(radius: float, profile: list[tuple[float, float, float]], *, height: float = 1.0) -> Shape:
    """Loft along y from (position, share of radius, lift) triples; v runs from 0 below to 1 above."""
    ring = circle(18)
    sections = [
        np.stack(
            [ring[:, 1] * radius * share, np.full(18, y), ring[:, 0] * radius * share * height + lift * radius], axis=-1
        )
        for y, share, lift in profile
    ]
    shape = loft(sections)
    corners = shape.vertices[shape.faces]
    return shape.with_uv(np.stack([corners[..., 1] / 0.04, corners[..., 2] / (2 * radius) + 0.5], axis=-1))


def _livery(dice: Dice, draft: Draft, base: str, *, windows: bool) -> Material:
    """The body's paint: base colour, perhaps a stripe along the side, perhaps a row of windows."""
    image = np.zeros((32, 8, 3), np.uint8)
    image[:] = plain(dice, base).rgb
    stripe = dice.choice(distinct((*VIVID, "dark blue", "black", "dark red"), base)) if dice.chance(0.6) else None
    if stripe:
        image[15:20] = COLOURS[stripe]
        draft.say(stripe=stripe)
    draft.say(striped=stripe is not None, windows=windows)
    if windows:
        image[10:14, 2:6] = COLOURS["dark grey"]
    colours = (base, *([stripe] if stripe else []))
    return picture(base, colours, image)


def _wing(root: float, tip: float, span: float, sweep: float, *, thickness: float = 0.018) -> Shape:
    """The right wing, its leading root edge at the origin."""
    return prism([(0, 0), (span, sweep), (span, sweep + tip), (0, root)], thickness, axis=2)


def _fin(y: float, z: float, chord: float, height: float, sweep: float) -> Shape:
    return prism(
        [(y, z), (y + chord, z), (y + sweep + chord * 0.9, z + height), (y + sweep + chord * 0.4, z + height)], 0.018
    )


def _airliner(draft: Draft, dice: Dice) -> None:
    radius = dice.uniform(0.055, 0.08)
    base = dice.choice(_BODY_COLOURS)
    body = _livery(dice, draft, base, windows=True)
    profile = [
        (-0.5, 0.08, -0.3), (-0.48, 0.42, -0.25), (-0.44, 0.74, -0.12), (-0.38, 0.95, 0), (-0.32, 1, 0), (0.18, 1, 0),
        (0.34, 0.75, 0.2), (0.5, 0.18, 0.55),
    ]  # fmt: skip
    draft.add("body", _fuselage(radius, profile), body)
    draft.add(
        "_cockpit", ellipsoid((radius * 0.55, 0.03, radius * 0.3), (0, -0.445, radius * 0.52)), plain(dice, "black")
    )
    wings = plain(dice, ("light grey", "white", "grey", base))
    span, sweep, root = dice.uniform(0.36, 0.5), dice.uniform(0.1, 0.26), dice.uniform(0.17, 0.24)
    front = -0.16 + dice.uniform(-0.04, 0.04)
    wing = _wing(root, 0.06, span, sweep).turned(1, -dice.uniform(2, 7)).moved(0, front, -radius * 0.45)
    draft.pair("wings", wing, wings)
    tail = plain(dice, distinct((*VIVID, *DEEP), base)) if dice.chance(0.7) else plain(dice, wings.colours)
    height = dice.uniform(0.14, 0.2)
    draft.add("tail fin", _fin(0.32, radius * 0.55, 0.14, height, 0.1), tail)
    high = dice.chance(0.3)
    level = radius * 0.55 + height - 0.012 if high else radius * 0.4
    draft.pair(
        "tailplanes", _wing(0.1, 0.045, dice.uniform(0.13, 0.19), 0.08).moved(0, 0.42 if high else 0.37, level), wings
    )
    rear = dice.chance(0.25)
    engines = 2 if rear else dice.choice((2, 2, 4))
    metal = plain(dice, ("grey", "dark grey", "light grey", *tail.colours))
    size = dice.uniform(0.026, 0.036) * (0.85 if engines == 4 else 1)
    nacelle = lathe([(size * 0.8, 0), (size, 0.02), (size, 0.07), (size * 0.6, 0.13)], sides=14).turned(0, -90)
    if rear:
        draft.pair("engines", nacelle.moved(radius + size * 0.9, 0.2, radius * 0.5), metal)
    else:
        for share in (0.36,) if engines == 2 else (0.3, 0.62):
            place = (span * share, front + sweep * share - 0.035, -radius * 0.45 - size * 0.75)
            draft.pair("engines", nacelle.moved(*place), metal)
    draft.say(engines=engines, engines_at="tail" if rear else "wings", t_tail=high, wings=2)


def _propeller_plane(draft: Draft, dice: Dice) -> None:
    radius = dice.uniform(0.07, 0.09)
    base = dice.choice((*_BODY_COLOURS, *VIVID))
    profile = [(-0.4, 0.5, 0), (-0.385, 0.8, 0), (-0.3, 1, 0), (-0.05, 1.05, 0.05), (0.1, 0.8, 0.1), (0.4, 0.22, 0.3)]
    draft.add("body", _fuselage(radius, profile, height=1.1), _livery(dice, draft, base, windows=False))
    draft.add(
        "_canopy", ellipsoid((radius * 0.72, 0.12, radius * 0.75), (0, -0.1, radius * 0.8)), plain(dice, "light blue")
    )
    wings = plain(dice, distinct((*VIVID, *NEUTRAL), base)) if dice.chance(0.6) else plain(dice, base)
    span, chord = dice.uniform(0.4, 0.52), dice.uniform(0.13, 0.18)
    wing = _wing(chord, chord * dice.uniform(0.6, 1), span, dice.uniform(0, 0.04), thickness=0.022)
    double = dice.chance(0.3)
    high = not double and dice.chance(0.5)
    if double:
        for level in (-radius * 0.8, radius * 2.0):
            draft.pair("wings", wing.moved(0, -0.24, level), wings)
        strut = rod((span * 0.6, -0.17, -radius * 0.8), (span * 0.6, -0.17, radius * 2.0), 0.01)
        draft.pair("_struts", strut, plain(dice, "dark brown"))
        draft.pair("_struts", strut.moved(-span * 0.45), draft.surfaces["_struts"])
    else:
        tilt = dice.uniform(0, 5)
        draft.pair("wings", wing.turned(1, -tilt).moved(0, -0.22, radius * (1.45 if high else -0.5)), wings)
    tail = plain(dice, wings.colours)
    draft.add("tail fin", _fin(0.27, radius * 0.3, 0.13, dice.uniform(0.12, 0.16), 0.05), tail)
    draft.pair("tailplanes", _wing(0.1, 0.07, dice.uniform(0.14, 0.19), 0.02).moved(0, 0.3, radius * 0.3), tail)
    blades, dark = dice.integer(2, 4), plain(dice, ("black", "dark grey", "brown"))
    draft.add(
        "_spinner", cylinder(0.03, 0.05, top=0.006, sides=12).turned(0, 90).moved(0, -0.4, 0), plain(dice, NEUTRAL)
    )
    length = dice.uniform(0.13, 0.17)
    for k in range(blades):
        blade = box((0.028, 0.014, length), (0, -0.42, length / 2)).turned(
            1, 360 * k / blades + 20, about=(0, -0.42, 0)
        )
        draft.add("propeller blades", blade, dark)
    wheels = dice.chance(0.7)
    if wheels:
        rubber, legs = plain(dice, "black"), plain(dice, "grey")
        for x, y in ((0.1, -0.2), (-0.1, -0.2), (0, 0.3 if dice.chance(0.5) else -0.34)):
            foot = -radius * 1.1 - 0.07
            draft.add("_gear", rod((x * 0.4, y, -radius * 0.2), (x, y, foot), 0.012), legs)
            draft.add("wheels", cylinder(0.035, 0.024, sides=14).turned(1, 90).moved(x - 0.012, y, foot), rubber)
    draft.say(wings=4 if double else 2, blades=blades, gear=wheels, wing_place="high" if high else "low")


def _fighter(draft: Draft, dice: Dice) -> None:
    radius = dice.uniform(0.05, 0.065)
    base = dice.choice(
        ("grey", "dark grey", "light grey", "dark green", "green", "dark blue", "beige", "red", "blue", "black")
    )
    profile = [(-0.5, 0.03, -0.1), (-0.36, 0.5, 0), (-0.2, 0.9, 0), (0.0, 1.15, 0), (0.36, 1.1, 0), (0.46, 0.8, 0)]
    body = plain(dice, base)
    draft.add("body", _fuselage(radius, profile), body)
    glass = plain(dice, distinct(("light blue", "orange", "black", "dark blue"), base))
    draft.add("canopy", ellipsoid((radius * 0.55, 0.11, radius * 0.62), (0, -0.2, radius * 0.78)), glass)
    wings = plain(dice, base) if dice.chance(0.6) else plain(dice, distinct((*VIVID, *DEEP, "white"), base))
    span, root = dice.uniform(0.27, 0.38), dice.uniform(0.32, 0.46)
    draft.pair("wings", _wing(root, 0.07, span, root * dice.uniform(0.6, 0.85)).moved(0, 0.3 - root, -0.01), wings)
    tail = plain(dice, wings.colours)
    fins, height = dice.choice((1, 2)), dice.uniform(0.14, 0.19)
    fin = _fin(0.2, radius * 0.5, 0.17, height, 0.1)
    label = "tail fin" if fins == 1 else "tail fins"
    if fins == 1:
        draft.add(label, fin.moved(0, 0, radius * 0.3), tail)
    else:
        draft.pair(label, fin.turned(1, 14).moved(radius * 0.8), tail)
    draft.pair("tailplanes", _wing(0.12, 0.06, dice.uniform(0.14, 0.2), 0.09).moved(radius * 0.5, 0.34, 0), tail)
    nozzles, dark = dice.choice((1, 2)), plain(dice, "black")
    size = radius * (0.75 if nozzles == 1 else 0.5)
    for x in (0.0,) if nozzles == 1 else (-radius * 0.5, radius * 0.5):
        draft.add("_nozzles", cylinder(size, 0.07, top=size * 0.8, sides=14).turned(0, -90).moved(x, 0.44, 0), dark)
    missiles = dice.choice((0, 2, 4))
    if missiles:
        paint = plain(dice, distinct(("white", "red", "yellow", "orange"), *wings.colours))
        missile = lathe([(0.001, -0.1), (0.014, -0.075), (0.014, 0.08)], sides=10).turned(0, 90)
        for share in (0.45, 0.75)[: missiles // 2]:
            draft.pair("missiles", missile.moved(span * share, 0.12 + 0.1 * share, -0.035), paint)
    draft.say(wings=2, tail_fins=fins, nozzles=nozzles, missiles=missiles)
