"""What there is to say about a procedural object, in ShapeNeRF-Text's JSON (docs/released_format.md#shapenerf-text).

Every sentence is filled from the object's parameters and surfaces; wording and selection come from a seed, truth does not. Per
object, like ShapeNeRF-Text: one brief and one detailed description, three single-round questions, one conversation of three
turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import StrPath, write_json
from .procedural.catalogue import CLASS_NAMES, ProceduralObject, nouns
from .procedural.dice import Dice
from .procedural.materials import COLOURS
from .procedural.topics import class_texts, surface_keys

BRIEF_NAME = "conversations_brief.json"
COMPLEX_NAME = "conversations_complex.json"
_COLOUR = re.compile(r"\b(?:" + "|".join(COLOURS) + r")\b")
PLACEHOLDER = "<point>\n"

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

_BRIEF_PROMPTS = (
    "Describe this object briefly.",
    "What is this?",
    "Give a short description of this NeRF.",
    "Summarize this object in one sentence.",
    "What does this NeRF represent?",
    "Caption this object.",
    "Provide a concise description of the object.",
    "In a few words, what can be seen here?",
    "Describe the object in this NeRF in one sentence.",
    "Offer a brief summary of this 3D object.",
)
_DETAILED_PROMPTS = (
    "Describe this object in detail.", "Give a detailed description of this NeRF.", "What does this object look like in detail?",
    "Describe the shape, the parts and the colours of this object.", "Can you tell me everything you see about this object?",
    "Provide a thorough description of the object in this NeRF.", "Please describe the object as precisely as you can.",
)  # fmt: skip
_CLASS_QUESTIONS = (
    "What is this object?",
    "What kind of object is this?",
    "What does this NeRF show?",
    "Which object can be seen here?",
)
_CLASS_ANSWERS = ("It is a {noun}.", "This is a {noun}.", "The object is a {noun}.", "This NeRF shows a {noun}.")
_OPENINGS = ("This is a {noun}.", "The object is a {noun}.", "The NeRF shows a {noun}.", "A {noun} can be seen.")
_SURFACE_QUESTIONS = ("What colour {be} the {label}?", "What {do} the {label} look like?")
_SURFACE_FACTS = ("The {label} {be} {look}.",)


@dataclass(frozen=True)
class Claim:
    """One statement: ways to ask for it, ways to say it, a reply word, a noun phrase and the surface it is about."""

    questions: tuple[str, ...]
    facts: tuple[str, ...]
    reply: str = ""
    phrase: str = ""
    surface: str = ""


def claims(subject: ProceduralObject, *, literal_colours: bool = True) -> list[Claim]:
    """Everything that may be said about an object: the topics that hold for it, and the look of each named surface.

    Templates that name a parameter or a surface which the object lacks are left out; without `literal_colours`, for an object
    in other colours than it was made with, so are those that name a colour themselves.
    """
    words = _words(subject)

    def told(templates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in templates if _may_be_told(text, words, literal_colours))

    found = [
        Claim(
            tuple(filled(text, words) for text in told(topic.ask)),
            tuple(filled(text, words) for text in told(case.say)),
            case.reply,
            filled("".join(told((case.phrase,))), words, sentence=False),
        )
        for topic in class_texts(subject.class_name).topics
        for case in topic.cases
        if case.holds(subject.parameters) and told(topic.ask) and told(case.say)
    ]
    return found + [_surface_claim(label, look) for label, look in subject.surfaces.items()]


def _surface_claim(label: str, look: str) -> Claim:
    many = label.endswith("s")
    words = {"label": label, "look": predicate(look), "be": "are" if many else "is", "do": "do" if many else "does"}
    questions = tuple(filled(text, words) for text in _SURFACE_QUESTIONS)
    return Claim(questions, tuple(filled(text, words) for text in _SURFACE_FACTS), surface=label)


def predicate(look: str) -> str:
    """How a look reads after "is": "brown wood" -> "brown with a wood grain"."""
    if look.endswith(" wood"):
        return f"{look.removesuffix(' wood')} with a wood grain"
    if "-dotted " in look:
        dots, ground = look.split("-dotted ")
        return f"{ground} with {dots} dots"
    return look


def _may_be_told(template: str, words: Mapping[str, str], literal_colours: bool) -> bool:
    if any(key not in words for key in re.findall(r"{(.*?)}", template)):
        return False
    return literal_colours or not _COLOUR.search(re.sub(r"{.*?}", "", template))


def _words(subject: ProceduralObject) -> dict[str, str]:
    """Template keys and their words."""
    words: dict[str, str] = {}
    for key, value in subject.parameters.items():
        if isinstance(value, int) and not isinstance(value, bool):
            words[key] = NUMBER_WORDS[value] if value < len(NUMBER_WORDS) else str(value)
        elif isinstance(value, str):
            words[key] = value
    for label, look in subject.surfaces.items():
        words.update(zip(surface_keys(label), (look, predicate(look)), strict=True))
    return words


def filled(template: str, words: Mapping[str, str], *, sentence: bool = True) -> str:
    """A template with its words, "an" for "a" where it must be, and a capital where it is a sentence."""
    text = template.format_map(words)
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!one\b)", r"\1n ", text)
    return text[:1].upper() + text[1:] if sentence else text


def brief_description(subject: ProceduralObject, dice: Dice, *, literal_colours: bool = True) -> str:
    """One sentence: what it is, and two or three of its features."""
    noun = dice.choice(nouns(subject))
    main = subject.surfaces.get(class_texts(subject.class_name).main, "")
    phrases = dice.shuffled(
        [claim.phrase for claim in claims(subject, literal_colours=literal_colours) if claim.phrase]
    )[: dice.integer(2, 3)]
    opening = dice.choice(("A {main} {noun}", "This is a {main} {noun}", "The object is a {main} {noun}")).replace(
        "{main} ", f"{main} " if main else ""
    )
    # "No armrests" closes a list better than it opens one.
    phrases.sort(key=lambda phrase: phrase.startswith("no "))
    text = (
        f"{opening.replace('{noun}', noun)} with {listed(phrases)}."
        if phrases
        else f"{opening.replace('{noun}', noun)}."
    )
    return filled(text, {})


def detailed_description(subject: ProceduralObject, dice: Dice, *, literal_colours: bool = True) -> str:
    """A paragraph: what it is, its features, and the surfaces that these did not mention."""
    everything = claims(subject, literal_colours=literal_colours)
    features = [claim for claim in everything if not claim.surface]
    lacking = dice.shuffled([claim for claim in features if claim.reply == "No"])[1:]
    text = [filled(dice.choice(_OPENINGS), {"noun": dice.choice(nouns(subject))})]
    asked: set[str] = set()
    for claim in dice.shuffled(features):
        if claim not in lacking and not asked & set(
            claim.questions
        ):  # two claims that answer one question repeat each other
            text.append(dice.choice(claim.facts))
            asked |= set(claim.questions)
    said = " ".join(text).lower()
    for claim in everything:
        if claim.surface and (claim.surface not in said or subject.surfaces[claim.surface] not in said):
            text.append(dice.choice(claim.facts))
    return " ".join(text)


def question_and_answer(claim: Claim, dice: Dice) -> tuple[str, str]:
    question, fact = dice.choice(claim.questions), dice.choice(claim.facts)
    # A reply only fits a question that can be answered with it.
    if claim.reply and re.match(r"(Is|Are|Does|Do|Can)\b", question):
        fact = f"{claim.reply}, {fact[:1].lower()}{fact[1:]}"
    return question, fact


def conversations(subject: ProceduralObject, *, seed: int = 0, single_rounds: int = 3) -> list[dict[str, Any]]:
    """All entries of one object, in the exact form of the texts files: brief, detailed, `single_rounds` single rounds, multi."""
    dice = Dice(CLASS_NAMES.index(subject.class_name), subject.seed, seed, 7_2)
    entries = [
        entry(
            subject.object_id, "brief_description", [(dice.choice(_BRIEF_PROMPTS), brief_description(subject, dice))]
        ),
        entry(
            subject.object_id,
            "detailed_description",
            [(dice.choice(_DETAILED_PROMPTS), detailed_description(subject, dice))],
        ),
    ]
    naming = Claim(_CLASS_QUESTIONS, tuple(filled(text, {"noun": nouns(subject)[0]}) for text in _CLASS_ANSWERS))
    everything = dice.shuffled([*claims(subject), naming])
    entries += [
        entry(subject.object_id, "single_round", [question_and_answer(everything[k % len(everything)], dice)])
        for k in range(single_rounds)
    ]
    turns = [question_and_answer(naming, dice)]
    for claim in dice.shuffled(claims(subject)):
        question, answer = question_and_answer(claim, dice)
        if len(turns) < 3 and question not in [asked for asked, _ in turns]:
            turns.append((question, answer))
    return [*entries, entry(subject.object_id, "multi_round", turns)]


def entry(object_id: str, kind: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    """One entry of a texts file: (question, answer) pairs about an object."""
    values = []
    for index, (question, answer) in enumerate(turns):
        values.append({"from": "human", "value": question if index else PLACEHOLDER + question})
        values.append({"from": "gpt", "value": answer})
    return {"object_id": object_id, "conversation_type": kind, "conversations": values}


def write_texts(
    objects: Iterable[ProceduralObject], directory: StrPath, *, seed: int = 0, single_rounds: int = 3
) -> tuple[Path, Path]:
    """Write `conversations_brief.json` and `conversations_complex.json` for objects, and return their paths.

    The brief file holds the brief descriptions, the complex one everything else, objects in the order given. Raises `ValueError`
    for two objects with one id and `OSError` where the directory cannot be written.
    """
    brief, rest = brief_and_rest(
        (subject.object_id, conversations(subject, seed=seed, single_rounds=single_rounds)) for subject in objects
    )
    paths = Path(directory) / BRIEF_NAME, Path(directory) / COMPLEX_NAME
    write_json(brief, paths[0])
    write_json(rest, paths[1])
    return paths


def brief_and_rest(
    objects: Iterable[tuple[str, list[dict[str, Any]]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The entries of the brief file and of the complex one, of ``(object_id, entries)`` in the order given.

    Raises `ValueError` for two objects with one id: texts know them by it.
    """
    brief: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    seen: set[str] = set()
    for object_id, entries in objects:
        if object_id in seen:
            raise ValueError(f"object {object_id} was given twice; expected every object once")
        seen.add(object_id)
        for each in entries:
            (brief if each["conversation_type"] == "brief_description" else rest).append(each)
    return brief, rest


def listed(items: list[str]) -> str:
    """ "red", "red and blue", "red, blue and green"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
