"""Lamps: table, floor, desk and ceiling lamps."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import ANY, METAL, NEUTRAL, VIVID, Material, distinct, fabric, plain, wood
from .shapes import Shape, box, cylinder, ellipsoid, lathe, rod

_SHADES = ("conical", "cylindrical", "dome-shaped", "ball-shaped")


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"table lamp": 0.35, "floor lamp": 0.25, "desk lamp": 0.22, "hanging lamp": 0.18})
    shade = fabric(dice, ("white", "beige", "yellow", "white", *ANY), period=0.2)
    stem = plain(dice, distinct((*METAL, "brown", "yellow", *VIVID), *shade.colours))
    draft.say(kind=kind)
    if kind == "desk lamp":
        _desk_lamp(draft, dice, plain(dice, (*VIVID, *NEUTRAL)))
        return
    form = dice.choice(_SHADES)
    draft.say(shade_shape=form)
    if kind == "hanging lamp":
        width = dice.uniform(0.2, 0.32)
        cord = dice.uniform(0.35, 0.6)
        draft.add("cord", rod((0, 0, 0), (0, 0, -cord), 0.013, sides=8), stem)
        draft.add("_ceiling plate", cylinder(0.07, 0.03, sides=20), stem)
        draft.add("lampshade", _shade(form, width, dice).moved(0, 0, -cord - width * 0.85), shade)
        return
    tall = kind == "floor lamp"
    height, width = (
        (dice.uniform(0.85, 1.0), dice.uniform(0.15, 0.2))
        if tall
        else (dice.uniform(0.3, 0.42), dice.uniform(0.18, 0.26))
    )
    base = (
        dice.weighted({"round": 0.5, "square": 0.25, "three-legged": 0.25})
        if tall
        else dice.weighted({"round": 0.35, "square": 0.25, "vase-shaped": 0.4})
    )
    draft.say(base=base)
    _base(draft, dice, base, stem, height)
    draft.add("lampshade", _shade(form, width, dice).moved(0, 0, height), shade)


def _shade(form: str, width: float, dice: Dice) -> Shape:
    """From 0 upwards; `width` is the lower radius."""
    height = width * dice.uniform(1.0, 1.35)
    if form == "conical":
        return cylinder(width, height, top=width * dice.uniform(0.4, 0.65), sides=28)
    if form == "cylindrical":
        return cylinder(width * 0.85, height, sides=28)
    if form == "ball-shaped":
        radius = width * 0.8
        return ellipsoid((radius, radius, radius), (0, 0, radius), sides=24, rows=14)
    profile = [
        (width, 0.0),
        (width * 0.98, width * 0.2),
        (width * 0.85, width * 0.5),
        (width * 0.6, width * 0.75),
        (0.04, width * 0.92),
    ]
    return lathe(profile, sides=28)


def _base(draft: Draft, dice: Dice, kind: str, stem: Material, height: float) -> None:
    radius = dice.uniform(0.11, 0.15)
    if kind == "vase-shaped":
        belly = dice.uniform(0.08, 0.14)
        glaze = fabric(dice, (*VIVID, "white", "dark blue", "dark green"), period=0.14)
        profile = [
            (belly * 0.6, 0), (belly * 0.95, height * 0.15), (belly, height * 0.33), (belly * 0.75, height * 0.55),
            (0.035, height * 0.75), (0.03, height * 0.82),
        ]  # fmt: skip
        draft.add("base", lathe(profile, sides=24), glaze)
        draft.add("_neck", rod((0, 0, height * 0.8), (0, 0, height + 0.03), 0.014), stem)
        return
    low = height * 0.36 if kind == "three-legged" else 0.02
    draft.add("stem", rod((0, 0, low), (0, 0, height + 0.05), dice.uniform(0.014, 0.022)), stem)
    if kind == "round":
        draft.add("base", cylinder(radius, 0.035, top=radius * dice.uniform(0.6, 1), sides=28), stem)
    elif kind == "square":
        draft.add("base", box((radius * 1.7, radius * 1.7, 0.04), (0, 0, 0.02)), stem)
    else:
        feet = wood(dice) if dice.chance(0.5) else plain(dice, stem.colours)
        for k in range(3):
            leg = rod((0, 0, height * 0.4), (0, -radius * 2, 0), 0.02, top=0.014).turned(2, 120 * k)
            draft.add("legs", leg, feet)


def _desk_lamp(draft: Draft, dice: Dice, paint: Material) -> None:
    metal = plain(dice, distinct(METAL, *paint.colours))
    radius = dice.uniform(0.13, 0.17)
    draft.add("base", cylinder(radius, 0.04, top=radius * 0.85, sides=28), paint)
    low, high = dice.uniform(0.34, 0.44), dice.uniform(0.3, 0.4)
    elbow = (0.0, 0.14, low)
    tip = (0.0, 0.14 - high * dice.uniform(0.75, 0.95), low + high * dice.uniform(0.3, 0.6))
    draft.add("arm", rod((0, 0, 0.03), elbow, 0.017), metal)
    draft.add("arm", rod(elbow, tip, 0.017), metal)
    draft.add("_joint", ellipsoid((0.03, 0.03, 0.03), elbow, sides=12, rows=8), paint)
    head = lathe([(0.02, 0.12), (0.055, 0.1), (0.065, 0.05), (0.13, -0.09)][::-1], sides=24)
    draft.add("head", head.turned(0, -dice.uniform(20, 50)).moved(*tip), paint)
