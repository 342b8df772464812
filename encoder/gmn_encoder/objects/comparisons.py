"""Conversations about two objects, from the truth of both: what they are, how their colours differ, which one is which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..seeds import derived_seed
from .dialogues import Questions
from .language import PLACEHOLDER
from .names import with_article
from .procedural.dice import Dice
from .truth import ObjectTruth

COMPARISON = "comparison"
COMPARISON_NAME = "conversations_comparison.json"

_TURNS = 3
_SAME_KIND, _TALLER = 0.4, 1.4
_PLACES = ("first", "second")


def comparison_entries(truths: Sequence[ObjectTruth], *, seed: int = 0) -> list[dict[str, Any]]:
    """One conversation of three turns for each object and another one of the list, of the same kind in two of five.

    Entries are those of ShapeNeRF-Text but for ``object_ids``, the two in the order in which their placeholders stand; the
    ``object_id`` is the first.
    """
    entries = []
    by_category: dict[str, list[ObjectTruth]] = {}
    for each in truths:
        by_category.setdefault(each.name.category, []).append(each)
    for first in truths:
        dice = Dice(derived_seed(seed, "comparison", first.class_id, first.nerf_id))
        others = by_category[first.name.category] if dice.chance(_SAME_KIND) else truths
        second = dice.choice(others)
        if second is not first:
            entries.append(_entry(first, second, _turns(first, second, dice)))
    return entries


def _entry(first: ObjectTruth, second: ObjectTruth, turns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    values = []
    for number, (question, answer) in enumerate(turns):
        values.append({"from": "human", "value": question if number else 2 * PLACEHOLDER + question})
        values.append({"from": "gpt", "value": answer})
    ids = [first.nerf_id, second.nerf_id]
    return {"object_id": ids[0], "object_ids": ids, "conversation_type": COMPARISON, "conversations": values}


def _turns(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> list[tuple[str, str]]:
    makers = [_names, _same_kind, _colours, _which_is, _which_colour, _taller]
    found = [made for make in dice.shuffled(makers) if (made := make(first, second, dice)) is not None]
    return found[:_TURNS]


def _asked(name: str, truth: ObjectTruth, dice: Dice, **words: str) -> tuple[str, str]:
    asked = Questions(truth, dice).worded(name, "", (), "", **words)
    return asked.question, asked.answer


def _names(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> tuple[str, str]:
    return _asked("pair_names", first, dice, a_first=first.name.with_article, a_second=second.name.with_article)


def _same_kind(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> tuple[str, str] | None:
    kind = first.name.category_noun
    if kind and kind == second.name.category_noun:
        return _asked("pair_same_kind_yes", first, dice, noun=kind, a_kind=with_article(kind))
    if first.name.category == second.name.category or not second.name.may_deny(first.name.noun):
        return None
    return _asked("pair_same_kind_no", first, dice, a_first=first.name.with_article, a_second=second.name.with_article)


def _colours(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> tuple[str, str] | None:
    if len(first.main_colours) > 1 or len(second.main_colours) > 1:
        return None
    mains = [each.shade(each.main_colours[0]) for each in (first, second)]
    basics = [each.main_colours[0] for each in (first, second)]
    words = {"main_first": mains[0], "main_second": mains[1]}
    if dice.chance(0.5) and mains[0] != mains[1]:
        return _asked("pair_colours", first, dice, **words)
    if basics[0] == basics[1]:
        return _asked("pair_same_colour_yes", first, dice, main=basics[0])
    return _asked("pair_same_colour_no", first, dice, **words)


def _which_is(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> tuple[str, str] | None:
    place = dice.integer(0, 1)
    right, wrong = (first, second)[place], (first, second)[1 - place]
    noun = right.name.category_noun or right.name.noun
    if not wrong.name.may_deny(noun):
        return None
    return _asked("pair_which_is", first, dice, a_noun=with_article(noun), place=_PLACES[place])


def _which_colour(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> tuple[str, str] | None:
    place = dice.integer(0, 1)
    right, wrong = (first, second)[place], (first, second)[1 - place]
    main = right.main_colours[0]
    if right.basic_colours[main] < 0.55 or wrong.basic_colours.get(main, 0) > 0.15:
        return None
    return _asked("pair_which_colour", first, dice, main=main, place=_PLACES[place])


def _taller(first: ObjectTruth, second: ObjectTruth, dice: Dice) -> tuple[str, str] | None:
    ratios = [each.extents[2] / max(each.extents[:2]) for each in (first, second)]
    if max(ratios) < _TALLER * min(ratios):
        return None
    return _asked("pair_taller", first, dice, place=_PLACES[ratios.index(max(ratios))])
