"""Tables: rectangular, round and hexagonal tops; legs, a column, panels or crossed legs."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft, Topic
from .materials import ANY, METAL, NEUTRAL, VIVID, Material, checked, distinct, plain, striped, wood
from .shapes import box, cylinder, lathe, rod, rounded_box


def build(draft: Draft, dice: Dice) -> None:
    form = dice.weighted({"rectangular": 0.45, "square": 0.15, "round": 0.27, "hexagonal": 0.13})
    low = dice.chance(0.4)
    width = dice.uniform(0.7, 0.85) if form != "rectangular" else dice.uniform(0.85, 1.05)
    depth = width * dice.uniform(0.5, 0.68) if form == "rectangular" else width
    height = dice.uniform(0.24, 0.34) if low else dice.uniform(0.46, 0.62)
    thick = dice.uniform(0.03, 0.06)
    top = dice.weighted({"wood": 0.5, "plain": 0.32, "checked": 0.09, "striped": 0.09})
    material = {
        "wood": lambda: wood(dice), "plain": lambda: plain(dice, ANY), "checked": lambda: checked(dice, ANY, period=0.3),
        "striped": lambda: striped(dice, ANY, period=0.24),
    }[top]()  # fmt: skip
    z = height - thick / 2
    if form in ("rectangular", "square"):
        draft.add("top", rounded_box((width, depth, thick), dice.uniform(0.01, 0.06), (0, 0, z)), material)
    else:
        sides = 36 if form == "round" else 6
        draft.add("top", cylinder(width / 2, thick, sides=sides).moved(0, 0, height - thick), material)
    frame = dice.choice((wood(dice), plain(dice, METAL), plain(dice, distinct((*VIVID, *NEUTRAL), *material.colours))))
    choices = {"four legs": 0.5, "column": 0.2, "side panels": 0.15, "crossed legs": 0.15}
    if form in ("round", "hexagonal"):
        choices = {"four legs": 0.25, "column": 0.45, "three legs": 0.3}
    support = dice.weighted(choices)
    _support(draft, dice, frame, support, width, depth, height - thick, round_top=form in ("round", "hexagonal"))
    shelf = support == "four legs" and form in ("rectangular", "square") and dice.chance(0.35)
    if shelf:
        level = height * dice.uniform(0.22, 0.38)
        draft.add(
            "shelf",
            box((width * 0.86, depth * 0.82, 0.024), (0, 0, level)),
            plain(dice, frame.colours) if frame.tile is None else frame,
        )
    drawers = (
        dice.integer(1, 3) if support == "four legs" and form == "rectangular" and not low and dice.chance(0.45) else 0
    )
    if drawers:
        _drawers(draft, dice, drawers, frame, width, depth, height - thick)
    draft.say(kind="table", shape=form, low=low, support=support, shelf=shelf, drawers=drawers)


def _support(
    draft: Draft, dice: Dice, frame: Material, kind: str, width: float, depth: float, height: float, *, round_top: bool
) -> None:  # fmt: skip
    thick = dice.uniform(0.022, 0.036)
    reach = 0.29 if round_top else 0.44
    if kind == "four legs":
        square, splay, taper = dice.chance(0.5), dice.uniform(0, 0.05), dice.uniform(0.55, 1)
        for x in (-1, 1):
            for y in (-1, 1):
                foot = (x * (width * reach + splay), y * (depth * reach + splay - 0.01), 0.0)
                head = (x * width * reach, y * (depth * reach - 0.01), height)
                draft.add("legs", rod(foot, head, thick * taper, top=thick, sides=4 if square else 12), frame)
    elif kind == "three legs":
        for k in range(3):
            leg = rod((0, -width * 0.4, 0), (0, -width * 0.26, height), thick * 0.7, top=thick)
            draft.add("legs", leg.turned(2, 120 * k), frame)
    elif kind == "column":
        base = min(width, depth) * dice.uniform(0.26, 0.36)
        waist = dice.uniform(0.03, 0.07)
        profile = [(base, 0), (base, 0.02), (waist, 0.09), (waist, height * 0.8), (waist * 1.8, height)]
        draft.add("column", lathe(profile, sides=24), frame)
    elif kind == "side panels":
        for x in (-1, 1):
            draft.add("side panels", box((0.04, depth * 0.9, height), (x * width * 0.44, 0, height / 2)), frame)
    else:
        for x in (-1, 1):
            for slope in (-1, 1):
                begin, end = (x * width * 0.4, slope * depth * 0.42, 0), (x * width * 0.4, -slope * depth * 0.4, height)
                draft.add("legs", rod(begin, end, thick, sides=4), frame)
        beam = rod((-width * 0.4, 0, height / 2), (width * 0.4, 0, height / 2), thick * 0.7)
        draft.add("_beam", beam, frame)


def _drawers(draft: Draft, dice: Dice, count: int, frame: Material, width: float, depth: float, height: float) -> None:
    tall, wide = 0.1, width * 0.84
    draft.add("_apron", box((wide, depth * 0.84, tall), (0, 0, height - tall / 2)), frame)
    fronts = plain(dice, distinct((*NEUTRAL, *VIVID, "brown"), *frame.colours, *draft.surfaces["top"].colours))
    knobs = plain(dice, distinct(("black", "white", "yellow"), *fronts.colours))
    label = "drawers" if count > 1 else "drawer"
    for k in range(count):
        x = wide * ((k + 0.5) / count - 0.5)
        y = -depth * 0.42 - 0.006
        draft.add(label, box((wide / count - 0.025, 0.022, tall - 0.022), (x, y, height - tall / 2)), fronts)
        draft.add("_knobs", cylinder(0.018, 0.03, sides=10).turned(0, 90).moved(x, y, height - tall / 2), knobs)


NOUNS = {"table": ("table", "table", "table")}
MAIN = ""
_STAND = ("What does the table stand on?", "How many legs does the table have?", "What holds up the top?")
TOPICS = (
    Topic(
        ("What shape is the table top?", "Is the table round?", "What does the top look like?"),
        ("The top is {shape} and {top_is}.", "It has a {shape} {top_look} top."),
        phrase="a {shape} {top_look} top",
    ),
    Topic(
        _STAND,
        ("It stands on four {legs_look} legs.", "Four {legs_look} legs hold up the top."),
        {"support": "four legs"},
        phrase="four {legs_look} legs",
    ),
    Topic(
        _STAND,
        ("It stands on three {legs_look} legs.", "Three slanted {legs_look} legs hold up the top."),
        {"support": "three legs"},
        phrase="three {legs_look} legs",
    ),
    Topic(
        _STAND,
        (
            "It stands on a single {column_look} column with a wide foot.",
            "One central {column_look} column carries the top.",
        ),
        {"support": "column"},
        phrase="a central {column_look} column",
    ),
    Topic(
        _STAND,
        ("It stands on two {side_panels_look} side panels.", "A {side_panels_look} panel carries the top at each end."),
        {"support": "side panels"},
        phrase="two {side_panels_look} side panels",
    ),
    Topic(
        _STAND,
        ("Two pairs of crossed {legs_look} legs carry it.", "Its {legs_look} legs cross like an X at each end."),
        {"support": "crossed legs"},
        phrase="crossed {legs_look} legs",
    ),
    Topic(
        ("Is the table low or high?", "How tall is it?"),
        ("It is a low table.", "The table is low, like a coffee table."),
        {"low": True},
    ),
    Topic(
        ("Is the table low or high?", "How tall is it?"),
        ("It is as high as a dining table.", "It is too high for a coffee table."),
        {"low": False},
    ),
    Topic(
        ("Is there a shelf?", "Is there anything below the top?"),
        ("A {shelf_look} shelf lies between its legs.", "There is a {shelf_look} shelf below the top."),
        {"shelf": True},
        reply="Yes",
        phrase="a shelf between the legs",
    ),
    Topic(("Is there a shelf?",), ("There is no shelf.", "It has no shelf."), {"shelf": False}, reply="No"),
    Topic(
        ("Does it have drawers?", "How many drawers are there?"),
        (
            "It has {drawers} {drawers_look} drawers below the top.",
            "There are {drawers} {drawers_look} drawers in front.",
        ),
        {"drawers": (2, 3)},
        phrase="{drawers} {drawers_look} drawers",
    ),
    Topic(
        ("Does it have drawers?", "How many drawers are there?"),
        ("It has one {drawer_look} drawer below the top.", "There is a single {drawer_look} drawer in front."),
        {"drawers": 1},
        phrase="one {drawer_look} drawer",
    ),
    Topic(("Does it have drawers?",), ("It has no drawers.", "There are no drawers."), {"drawers": 0}, reply="No"),
)
