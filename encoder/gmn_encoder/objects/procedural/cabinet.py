"""Cabinets: doors, drawers and open shelves in a grid."""

from __future__ import annotations

from .dice import Dice
from .draft import Draft
from .materials import ANY, METAL, NEUTRAL, Material, darker, distinct, plain, wood
from .shapes import CORNERS, box, ellipsoid, rod


def build(draft: Draft, dice: Dice) -> None:
    form = dice.weighted({"tall": 0.35, "wide": 0.4, "cube-shaped": 0.25})
    width, height = {
        "tall": (dice.uniform(0.42, 0.55), dice.uniform(0.85, 1.0)),
        "wide": (dice.uniform(0.85, 1.0), dice.uniform(0.42, 0.56)),
        "cube-shaped": (dice.uniform(0.6, 0.7), dice.uniform(0.6, 0.7)),
    }[form]
    depth = dice.uniform(0.3, 0.45)
    body = wood(dice) if dice.chance(0.55) else plain(dice, (*NEUTRAL, *ANY))
    if dice.chance(0.45):
        fronts = dice.choice(
            (
                plain(dice, distinct(ANY, *body.colours)),
                wood(dice, distinct(("brown", "beige"), *body.colours) or ("white",)),
            )
        )
    else:
        fronts = darker(body)
    handles = plain(dice, distinct((*METAL, "yellow", "red"), *fronts.colours))
    foot = dice.weighted({"legs": 0.5, "plinth": 0.3, "none": 0.2})
    lift = _feet(draft, dice, foot, width, depth)
    layout = dice.weighted({"doors": 0.3, "drawers": 0.28, "both": 0.27, "shelves and doors": 0.15})
    draft.say(kind="cabinet", form=form, foot=foot, layout=layout)
    cells: dict[str, tuple[float, float]] = {}  # share of the height from below: (low, high)
    if layout == "doors":
        cells["doors"] = (0, 1)
    elif layout == "drawers":
        cells["drawers"] = (0, 1)
    elif layout == "both":
        split = dice.uniform(0.45, 0.62)
        cells = (
            {"doors": (0, split), "drawers": (split, 1)}
            if dice.chance(0.7)
            else {"drawers": (0, 1 - split), "doors": (1 - split, 1)}
        )
    else:
        cells = {"doors": (0, 0.5), "open shelves": (0.5, 1)}
    _case(draft, dice, body, cells, (width, depth, height), lift)
    knob = dice.choice(("knobs", "bar handles"))
    draft.say(handles=knob)
    for what, (low, high) in cells.items():
        area = (width - 0.06, (high - low) * (height - 0.06), lift + 0.03 + low * (height - 0.06))
        if what == "doors":
            count = dice.choice((1, 2)) if width < 0.6 else dice.choice((2, 2, 3, 4))
            _doors(draft, fronts, handles, knob, count, area, depth)
            draft.say(doors=count)
        elif what == "drawers":
            rows = max(1, min(5, round(area[1] / dice.uniform(0.12, 0.2))))
            columns = 2 if width > 0.8 and dice.chance(0.6) else 1
            _drawers(draft, fronts, handles, knob, rows, columns, area, depth)
            draft.say(drawers=rows * columns)


def _feet(draft: Draft, dice: Dice, foot: str, width: float, depth: float) -> float:
    if foot == "none":
        return 0.0
    material = plain(dice, METAL) if dice.chance(0.5) else wood(dice, ("dark brown", "brown"))
    if foot == "plinth":
        draft.add("_plinth", box((width * 0.92, depth * 0.9, 0.07), (0, 0, 0.035)), material)
        return 0.07
    height, radius = dice.uniform(0.08, 0.2), dice.uniform(0.02, 0.03)
    for x, y in CORNERS:
        top = (x * (width / 2 - 0.05), y * (depth / 2 - 0.05), height)
        draft.add("legs", rod(top, (top[0] + x * 0.02, top[1] + y * 0.02, 0), radius, top=radius * 0.6), material)
    return height


def _case(
    draft: Draft, dice: Dice, body: Material, cells: dict[str, tuple[float, float]], size: tuple[float, float, float], lift: float
) -> None:  # fmt: skip
    """The body; hollow where shelves are."""
    width, depth, height = size
    if "open shelves" not in cells:
        draft.add("body", box(size, (0, 0, lift + height / 2)), body)
        return
    middle, wall = lift + height / 2, 0.035
    draft.add("body", box((width, depth, height / 2), (0, 0, lift + height / 4)), body)
    for x in (-1, 1):
        draft.add("body", box((wall, depth, height / 2), (x * (width - wall) / 2, 0, middle + height / 4)), body)
    draft.add("body", box((width - 2 * wall, 0.03, height / 2), (0, depth / 2 - 0.015, middle + height / 4)), body)
    shelves = dice.choice((1, 2))
    draft.add("body", box((width, depth, wall), (0, 0, lift + height - wall / 2)), body)
    for k in range(1, shelves):
        level = middle + k * (height / 2) / shelves
        draft.add("body", box((width - 2 * wall, depth - 0.03, 0.025), (0, -0.01, level)), body)
    draft.say(compartments=shelves)


def _handle(draft: Draft, material: Material, kind: str, x: float, y: float, z: float, *, upright: bool) -> None:
    if kind == "knobs":
        draft.add("_handles", ellipsoid((0.022, 0.026, 0.022), (x, y - 0.015, z), sides=10, rows=6), material)
        return
    size = (0.02, 0.022, 0.12) if upright else (0.12, 0.022, 0.02)
    draft.add("_handles", box(size, (x, y - 0.018, z)), material)


def _doors(
    draft: Draft, fronts: Material, handles: Material, knob: str, count: int, area: tuple[float, float, float], depth: float
) -> None:  # fmt: skip
    width, height, low = area
    each = width / count
    for k in range(count):
        x = -width / 2 + each * (k + 0.5)
        draft.add(
            "doors" if count > 1 else "door",
            box((each - 0.018, 0.024, height - 0.018), (x, -depth / 2 - 0.008, low + height / 2)),
            fronts,
        )
        side = 1 if k % 2 == 0 else -1
        _handle(draft, handles, knob, x + side * (each / 2 - 0.045), -depth / 2 - 0.02, low + height / 2, upright=True)


def _drawers(
    draft: Draft, fronts: Material, handles: Material, knob: str, rows: int, columns: int, area: tuple[float, float, float],
    depth: float,
) -> None:  # fmt: skip
    width, height, low = area
    wide, tall = width / columns, height / rows
    for row in range(rows):
        for column in range(columns):
            x, z = -width / 2 + wide * (column + 0.5), low + tall * (row + 0.5)
            label = "drawers" if rows * columns > 1 else "drawer"
            draft.add(label, box((wide - 0.018, 0.024, tall - 0.018), (x, -depth / 2 - 0.008, z)), fronts)
            _handle(draft, handles, knob, x, -depth / 2 - 0.02, z, upright=False)
