"""Rifles: hunting rifles, military rifles and sniper rifles."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import Material, distinct, plain, wood
from .shapes import box, cylinder, lathe, prism, rod, tube

# The muzzle points towards -y, so side views are outlines in (y, z); y grows towards the butt.


def build(draft: Draft, dice: Dice) -> None:
    kind = dice.weighted({"hunting rifle": 0.38, "military rifle": 0.37, "sniper rifle": 0.25})
    metal = plain(dice, ("black", "dark grey", "grey", "dark blue"))
    if kind == "hunting rifle" or dice.chance(0.2):
        stock = wood(dice, ("brown", "dark brown", "beige"), period=0.15)
    else:
        stock = plain(
            dice,
            distinct(
                ("black", "dark green", "green", "beige", "brown", "grey", "white", "dark red", "orange", "blue"),
                *metal.colours,
            ),
        )
    barrel, radius = dice.uniform(0.34, 0.46), dice.uniform(0.012, 0.017)
    draft.say(kind=kind)
    draft.add("barrel", rod((0, -0.12, 0), (0, -0.14 - barrel, 0), radius, top=radius * 0.9), metal)
    muzzle = dice.chance(0.5) or kind == "sniper rifle"
    if muzzle:
        size = radius * dice.uniform(1.7, 2.2)
        draft.add(
            "_muzzle",
            cylinder(size, dice.uniform(0.05, 0.12), sides=14).turned(0, 90).moved(0, -0.13 - barrel, 0),
            metal,
        )
    else:
        draft.add("_front sight", box((0.014, 0.02, 0.05), (0, -0.11 - barrel, 0.03)), metal)
    draft.add("receiver", box((0.045, 0.3, 0.062), (0, 0.02, -0.003)), metal)
    _guard(draft, metal)
    if kind == "hunting rifle":
        _long_stock(draft, dice, stock)
    else:
        _grip_stock(draft, dice, stock, kind)
    bolt = kind != "military rifle"
    if bolt:
        draft.add("_bolt", rod((0.015, 0.1, 0.012), (0.075, 0.115, -0.018), 0.011, sides=8), metal)
    magazine = kind == "military rifle" or (kind == "sniper rifle" and dice.chance(0.6))
    bent = magazine and dice.chance(0.5)
    if magazine:
        _magazine(draft, dice, plain(dice, (*metal.colours, "black")), bent=bent)
    scope = kind == "sniper rifle" or dice.chance(0.35)
    if scope:
        _scope(draft, dice, plain(dice, ("black", "dark grey")))
    bipod = kind == "sniper rifle" and dice.chance(0.6)
    if bipod:
        draft.pair("_bipod", rod((0.012, -0.34, -0.02), (0.085, -0.37, -0.2), 0.012, sides=8), metal)
    draft.say(magazine="curved" if bent else "straight" if magazine else "none", scope=scope, bipod=bipod, bolt=bolt)


def _guard(draft: Draft, metal: Material) -> None:
    path = [(0, 0.04, -0.03), (0, 0.05, -0.085), (0, 0.12, -0.085), (0, 0.135, -0.03)]
    draft.add("_trigger guard", tube(path, 0.009, sides=6), metal)
    draft.add("_trigger", rod((0, 0.085, -0.03), (0, 0.08, -0.07), 0.008, sides=6), metal)


def _long_stock(draft: Draft, dice: Dice, material: Material) -> None:
    """One piece of wood from the fore-end to the butt."""
    drop, fore = dice.uniform(0.08, 0.13), dice.uniform(0.2, 0.34)
    outline = [
        (-0.12 - fore, -0.012), (-0.11 - fore, -0.04), (0.02, -0.055), (0.13, -0.065), (0.2, -0.11), (0.26, -0.1),
        (0.56, -drop - 0.1), (0.58, -drop + 0.06), (0.32, -0.03), (0.23, -0.035), (0.17, 0.0),
    ]  # fmt: skip
    draft.add("stock", prism(outline, 0.056, inset=0.12), material)


def _grip_stock(draft: Draft, dice: Dice, material: Material, kind: str) -> None:
    """Separate fore-end, pistol grip and butt."""
    fore = dice.uniform(0.18, 0.28)
    draft.add(
        "stock",
        prism([(-0.13 - fore, -0.026), (-0.12, -0.038), (-0.12, 0.034), (-0.13 - fore, 0.024)], 0.05, inset=0.1),
        material,
    )
    draft.add(
        "stock", prism([(0.13, -0.03), (0.17, -0.17), (0.225, -0.155), (0.19, -0.03)], 0.042, inset=0.1), material
    )
    style = "skeleton" if dice.chance(0.3) else "solid"
    draft.say(butt=style)
    if style == "skeleton":
        path = [(0, 0.16, 0.012), (0, 0.46, 0.012), (0, 0.48, -0.12), (0, 0.18, -0.024)]
        draft.add("stock", tube(path, 0.014, sides=8), material)
        draft.add("stock", box((0.035, 0.024, 0.16), (0, 0.48, -0.05)), material)
        return
    drop = dice.uniform(0.05, 0.09)
    outline = [(0.165, -0.028), (0.27, -0.04), (0.5, -drop - 0.09), (0.51, 0.02), (0.3, 0.025), (0.165, 0.022)]
    draft.add("stock", prism(outline, 0.046, inset=0.1), material)
    if kind == "sniper rifle":
        draft.add("stock", box((0.04, 0.13, 0.03), (0, 0.38, 0.035)), material)


def _magazine(draft: Draft, dice: Dice, material: Material, *, bent: bool) -> None:
    deep = dice.uniform(0.13, 0.18)
    if bent:
        outline = [
            (-0.06, -0.03),
            (-0.075, -deep * 0.6),
            (-0.115, -deep - 0.04),
            (-0.05, -deep - 0.06),
            (-0.01, -deep * 0.6),
            (0.005, -0.03),
        ]
    else:
        outline = [(-0.06, -0.03), (-0.07, -deep), (-0.01, -deep - 0.01), (0.0, -0.03)]
    draft.add("magazine", prism(outline, 0.036), material)


def _scope(draft: Draft, dice: Dice, material: Material) -> None:
    length, high = dice.uniform(0.2, 0.28), 0.082
    big = dice.uniform(0.025, 0.034)
    profile = [
        (big * 0.7, 0),
        (big * 0.75, 0.05),
        (0.016, 0.075),
        (0.016, length - 0.09),
        (big, length - 0.05),
        (big, length),
    ]
    draft.add("scope", lathe(profile, sides=14).turned(0, 90).moved(0, 0.15, high), material)
    for y in (0.0, 0.09):
        draft.add("_mounts", box((0.018, 0.022, 0.06), (0, y, 0.05)), material)
