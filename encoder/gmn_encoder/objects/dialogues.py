"""Language about any object from its truth (`truth.py`), in ShapeNeRF-Text's JSON (docs/released_format.md#shapenerf-text).

Procedural objects and those that other people made are asked the same questions in the same words; of procedural objects more is
known (`language.py`), so more is said. Wording comes from a seed, truth does not. Every question that has one right answer is
written down with it (`Asked.expected`), so that answers can be marked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..seeds import derived_seed
from ..settings import convert, read_yaml
from .colour_names import basic_colour
from .language import (
    NUMBER_WORDS,
    brief_and_rest,
    brief_description,
    claims,
    detailed_description,
    entry,
    filled,
    listed,
    predicate,
    question_and_answer,
)
from .names import WORDING, name_rules, with_article
from .procedural.catalogue import ProceduralObject
from .procedural.dice import Dice
from .procedural.materials import COLOURS
from .truth import ObjectTruth

SECOND_SHARE, NO_SHARE = 0.12, 0.004
"""Least share of a colour that is spoken of, and largest share of one that may be denied."""

_SHORT = 0.3
_TURNS, _SINGLE_ROUNDS, _MULTI_ROUNDS, _BRIEF = 5, 8, 2, 2
_BASIC = tuple(dict.fromkeys(basic_colour(name) for name in COLOURS))
_UNKNOWN = ("maker", "price", "place", "size", "weight", "age", "owner")


@dataclass(frozen=True)
class Wording:
    """Ways to ask something, to answer in a sentence, and to answer shortly."""

    ask: tuple[str, ...] = ()
    say: tuple[str, ...] = ()
    short: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A question and its answer.

    Attributes:
        kind: the kind of question: "name", "main colour", "yes or no", "count", "part colour", "proportions"; "" where answers
            are not marked.
        question, answer: the texts.
        expected: what a right answer says: any of these words.
        topic: what it is about; two of one topic repeat each other.
    """

    kind: str
    question: str
    answer: str
    expected: tuple[str, ...] = ()
    topic: str = ""


@functools.cache
def wordings() -> dict[str, Wording]:
    return {name: Wording(**convert(Wording, values)) for name, values in read_yaml(WORDING / "questions.yaml").items()}


class Questions:
    """All that may be asked about one object, worded by dice.

    Args:
        truth: the object's truth.
        dice: where wording and choices come from.
    """

    def __init__(self, truth: ObjectTruth, dice: Dice) -> None:
        self.truth, self.dice = truth, dice
        basics = truth.basic_colours
        self._main = truth.shade(truth.main_colours[0])
        self._others = [truth.shade(name) for name, share in basics.items() if share >= SECOND_SHARE][1:]
        self._absent = [name for name in _BASIC if basics.get(name, 0) < NO_SHARE]

    def worded(self, name: str, kind: str, expected: Iterable[str], topic: str, **words: str) -> Asked:
        """A question of ``questions.yaml`` with its answer."""
        wording = wordings()[name]
        capitals = {key[:1].upper() + key[1:]: value[:1].upper() + value[1:] for key, value in words.items()}
        says = wording.short if wording.short and self.dice.chance(_SHORT) else wording.say
        question, answer = self.dice.choice(wording.ask), self.dice.choice(says)
        words = {**words, **capitals}
        return Asked(kind, filled(question, words), filled(answer, words), tuple(expected), topic)

    def name(self) -> Asked:
        name = self.truth.name
        return self.worded("name", "name", name.words, "name", a_noun=name.with_article)

    def is_it(self, right: bool) -> Asked:
        """Whether it is something that it is, or is not."""
        name = self.truth.name
        if right:
            noun = self.dice.choice([name.noun, name.category_noun or name.noun])
            return self.worded("is_it_yes", "yes or no", ["yes"], "is it", a_right=with_article(noun))
        words = {"a_wrong": with_article(self._wrong_noun()), "a_noun": name.with_article}
        return self.worded("is_it_no", "yes or no", ["no"], "is it not", **words)

    def name_choice(self) -> Asked:
        name, wrong = self.truth.name, self._wrong_noun()
        first, second = self.dice.shuffled([name.noun, wrong])
        words = {"first": first, "second": second, "right": name.noun, "wrong": wrong}
        words = {f"a_{key}": with_article(value) for key, value in words.items()}
        return self.worded("name_choice", "", (), "name", **words)

    def _wrong_noun(self) -> str:
        """A noun that certainly does not name it, more often than not one that it might be mistaken for."""
        name, categories = self.truth.name, name_rules().categories
        nouns = [each for each in categories.values() if each.noun and name.may_deny(each.noun)]
        near = [each.noun for each in nouns if each.group == name.group]
        return self.dice.choice(near if near and self.dice.chance(0.6) else [each.noun for each in nouns])

    def main_colour(self) -> Asked:
        expected, topic = self.truth.main_colours, "main colour"
        if not self._others and self.truth.basic_colours[expected[0]] > 0.97:
            return self.worded("one_colour", "main colour", expected, topic, main=self._main)
        if len(expected) > 1:
            second = self.truth.shade(expected[1])
            return self.worded("two_main_colours", "main colour", expected, topic, main=self._main, second=second)
        return self.worded("main_colour", "main colour", expected, topic, main=self._main)

    def second_colour(self) -> Asked | None:
        if not self._others:
            if self.truth.basic_colours[self.truth.main_colours[0]] < 0.93:
                return None  # several small ones
            return self.worded("no_second_colour", "", (), "second colour", main=self._main)
        shares = list(self.truth.basic_colours.values())
        if (len(shares) > 2 and shares[2] > 0.8 * shares[1]) or len(self.truth.main_colours) > 1:
            return None  # which one comes second is hard to say
        words = {"main": self._main, "second": self._others[0]}
        return self.worded("second_colour", "", (), "second colour", **words)

    def colours(self) -> Asked | None:
        if not self._others:
            return None
        return self.worded("colours", "", (), "colours", colours=listed([self._main, *self._others]))

    def is_colour(self, right: bool) -> Asked | None:
        """Whether its main colour is one that it is, or one that it has not."""
        shares, main = self.truth.basic_colours, self.truth.main_colours[0]
        if right:
            if shares[main] < 0.55 or len(self.truth.main_colours) > 1:
                return None
            return self.worded("is_colour_yes", "yes or no", ["yes"], "is colour", main=self._main, main_basic=main)
        if not self._absent:
            return None
        words = {"main": self._main, "wrong": self.dice.choice(self._absent)}
        return self.worded("is_colour_no", "yes or no", ["no"], "is not colour", **words)

    def has_colour(self, right: bool) -> Asked | None:
        if right:
            if not self._others:
                return None
            basic = basic_colour(self.dice.choice(self._others))
            return self.worded("has_colour_yes", "yes or no", ["yes"], "has colour", right=basic)
        if not self._absent:
            return None
        return self.worded("has_colour_no", "yes or no", ["no"], "has no colour", wrong=self.dice.choice(self._absent))

    def colour_choice(self) -> Asked | None:
        if not self._absent:
            return None
        right, wrong = self.truth.main_colours[0], self.dice.choice(self._absent)
        first, second = self.dice.shuffled([right, wrong])
        return self.worded("colour_choice", "", (), "main colour", first=first, second=second, right=right, wrong=wrong)

    def taller(self) -> Asked | None:
        taller = self.truth.taller
        if taller is None:
            return None
        word = "yes" if taller else "no"
        return self.worded(f"taller_{word}", "yes or no", [word], "proportions")

    def proportions(self) -> Asked | None:
        shape = self.truth.proportions
        return self.worded(f"shape_{shape}", "", (), "proportions") if shape else None

    def symmetric(self) -> Asked | None:
        if self.truth.symmetric is None:
            return None
        word = "yes" if self.truth.symmetric else "no"
        return self.worded(f"symmetric_{word}", "yes or no", [word], "symmetry")

    def count(self) -> Asked | None:
        if not self.truth.counts:
            return None
        label = self.dice.choice(list(self.truth.counts))
        number = self.truth.counts[label]
        expected = (NUMBER_WORDS[number], str(number))
        return self.worded("count", "count", expected, f"count {label}", label=label, number=NUMBER_WORDS[number])

    def part_colour(self) -> Asked | None:
        """The colour of a part that is not all there is of the object's colours."""
        looks = {label: look for label, look in self.truth.surfaces.items() if _colours_in(look)}
        if not looks:
            return None
        label = self.dice.choice(list(looks))
        many = label.endswith("s")
        words = {
            "label": label,
            "look": predicate(looks[label]),
            "be": "are" if many else "is",
            "do": "do" if many else "does",
        }
        return self.worded("part_colour", "part colour", _colours_in(looks[label]), f"colour {label}", **words)

    def unknown(self) -> Asked:
        return self.worded(f"unknown_{self.dice.choice(self._cannot_be_told())}", "", (), "unknown")

    def _cannot_be_told(self) -> list[str]:
        known_material = any("wood" in look for look in self.truth.surfaces.values())
        return [*_UNKNOWN, *([] if known_material else ["material"])]


def marked_questions(truth: ObjectTruth, *, seed: int = 0) -> list[Asked]:
    """Questions about an object whose answers can be marked, the same for every model: its name, its main colour, four to be
    answered yes and no by turns, and a number and the colour of a part where these are known."""
    ask = Questions(truth, Dice(derived_seed(seed, "marked", truth.class_id, truth.nerf_id)))
    found = [
        ask.name(),
        ask.main_colour(),
        ask.is_it(True),
        ask.is_it(False),
        ask.is_colour(True),
        ask.is_colour(False),
    ]
    found += [ask.taller(), ask.symmetric(), ask.count(), ask.part_colour()]
    return [each for each in found if each is not None]


def dialogue_entries(
    truth: ObjectTruth, subject: ProceduralObject | None = None, *, seed: int = 0
) -> list[dict[str, Any]]:
    """All entries about an object: two brief descriptions, a detailed one, eight single rounds, two conversations of five turns.

    Args:
        truth: its truth.
        subject: the procedural object, if it is one, of whose parts more is said.
        seed: seed of wording and choices.
    """
    dice = Dice(derived_seed(seed, "texts", truth.class_id, truth.nerf_id))
    ask = Questions(truth, dice)
    briefs = [(dice.choice(wordings()["describe_briefly"].ask), _brief(truth, subject, dice)) for _ in range(_BRIEF)]
    detailed = (dice.choice(wordings()["describe_in_detail"].ask), _detailed(truth, subject, dice))
    entries = [entry(truth.nerf_id, "brief_description", [turn]) for turn in briefs]
    entries.append(entry(truth.nerf_id, "detailed_description", [detailed]))
    fixed = [ask.name(), ask.main_colour(), ask.is_it(True), ask.is_it(False)]
    singles = [*fixed, *_drawn(ask, subject, dice, _SINGLE_ROUNDS - len(fixed), {each.topic for each in fixed})]
    entries += [entry(truth.nerf_id, "single_round", [(each.question, each.answer)]) for each in singles]
    for number in range(_MULTI_ROUNDS):
        first = [ask.name()] if number == 0 else [ask.main_colour(), ask.is_it(dice.chance(0.5))]
        turns = [*first, *_drawn(ask, subject, dice, _TURNS - len(first), {each.topic for each in first})]
        entries.append(entry(truth.nerf_id, "multi_round", [(each.question, each.answer) for each in turns]))
    return entries


def _drawn(ask: Questions, subject: ProceduralObject | None, dice: Dice, count: int, topics: set[str]) -> list[Asked]:
    """So many more questions, none of a topic that was there."""
    makers = [
        ask.main_colour, ask.second_colour, ask.colours, ask.colour_choice, ask.name_choice, ask.taller, ask.proportions,
        ask.symmetric, ask.unknown, lambda: ask.is_it(True), lambda: ask.is_it(False), lambda: ask.is_colour(True),
        lambda: ask.is_colour(False), lambda: ask.has_colour(True), lambda: ask.has_colour(False), ask.count, ask.part_colour,
    ]  # fmt: skip
    if subject is not None:
        recoloured = bool(ask.truth.recolouring)
        for claim in claims(subject, literal_colours=not recoloured):
            if not claim.surface:
                makers.append(functools.partial(_claimed, claim, dice))
    found: list[Asked] = []
    topics = set(topics)
    for make in dice.shuffled(makers):
        if len(found) == count:
            break
        asked = make()
        if asked is not None and asked.topic not in topics:
            found.append(asked)
            topics.add(asked.topic)
    return found


def _claimed(claim: Any, dice: Dice) -> Asked:
    question, answer = question_and_answer(claim, dice)
    return Asked("", question, answer, (), question)


_BRIEF_SENTENCES = (
    "{A_look}.", "This is {a_look}.", "The object is {a_look}.", "This NeRF shows {a_look}.", "It is {a_look}.", "{A_look}.",
)  # fmt: skip


def _brief(truth: ObjectTruth, subject: ProceduralObject | None, dice: Dice) -> str:
    """One sentence: what it is with its colours, or of a procedural object with its parts."""
    if subject is not None and dice.chance(0.5):
        return brief_description(subject, dice, literal_colours=not truth.recolouring)
    look = _look(truth, dice)
    return filled(dice.choice(_BRIEF_SENTENCES), {"a_look": look, "A_look": look[:1].upper() + look[1:]})


def _look(truth: ObjectTruth, dice: Dice) -> str:
    """The noun with one or two colours, and sometimes its proportions."""
    mains = [truth.shade(name) for name in truth.main_colours][:2]
    shares = list(truth.basic_colours.items())
    second = [truth.shade(name) for name, share in shares[1:] if share >= 0.2 and name not in truth.main_colours][:1]
    shape = truth.proportions if truth.proportions in ("tall", "flat", "long") and dice.chance(0.3) else ""
    noun = truth.name.noun
    words = " ".join(word for word in (shape if shape not in noun else "", " and ".join(mains), noun) if word)
    if second and len(mains) == 1:
        if dice.chance(0.5):
            words = words.replace(mains[0], f"{mains[0]} and {second[0]}", 1)
        else:
            words += dice.choice((" with some {0}", ", partly {0}", " with {0} parts")).format(second[0])
    return words if noun in name_rules().masses else filled(f"a {words}", {}, sentence=False)


_COLOUR_SENTENCES = (
    "It is mostly {main}.", "Most of it is {main}.", "Its main colour is {main}.", "{Main} covers the largest part of it.",
)  # fmt: skip
_MORE_COLOURS = ("Other parts are {others}.", "There is also {others}.", "The rest is mainly {others}.")
_OPENINGS = ("This is {a_noun}.", "The object is {a_noun}.", "The NeRF shows {a_noun}.", "{A_noun} can be seen.")


def _detailed(truth: ObjectTruth, subject: ProceduralObject | None, dice: Dice) -> str:
    """A paragraph: what it is, its colours, its proportions and symmetry; of a procedural object its parts instead of colours."""
    noun = truth.name.with_article
    words = {"a_noun": noun, "A_noun": noun[:1].upper() + noun[1:]}
    text = [filled(dice.choice(_OPENINGS), words)]
    if subject is not None:
        text = [detailed_description(subject, dice, literal_colours=not truth.recolouring)]
    mains = [truth.shade(name) for name in truth.main_colours][:2]
    main = listed(mains)
    if len(mains) == 2:
        text.append(f"It is about as much {mains[0]} as {mains[1]}.")
    else:
        text.append(filled(dice.choice(_COLOUR_SENTENCES), {"main": main, "Main": main[:1].upper() + main[1:]}))
    others = [
        truth.shade(name)
        for name, share in truth.basic_colours.items()
        if share >= 0.06 and name not in truth.main_colours
    ]
    if others and subject is None:
        text.append(filled(dice.choice(_MORE_COLOURS), {"others": listed(others[:3])}))
    if truth.proportions:
        text.append(dice.choice(wordings()[f"shape_{truth.proportions}"].say))
    if truth.symmetric is not None:
        said = "Its two halves mirror each other." if truth.symmetric else "Its two halves differ."
        text.append(said)
    return " ".join(text)


def _colours_in(look: str) -> tuple[str, ...]:
    rest, found = look, []
    for name in sorted(COLOURS, key=len, reverse=True):
        if f" {name} " in f" {rest.replace('-', ' ')} ":
            found.append(basic_colour(name))
            rest = rest.replace(name, "")
    return tuple(dict.fromkeys(found))


def entries_of(
    objects: Sequence[tuple[ObjectTruth, ProceduralObject | None]], *, seed: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The entries of the brief file and of the complex one, of objects in the order given.

    Raises `ValueError` for two objects with one name: texts know them by it.
    """
    return brief_and_rest((truth.nerf_id, dialogue_entries(truth, subject, seed=seed)) for truth, subject in objects)
