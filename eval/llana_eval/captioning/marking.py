"""Marking answers right or wrong against what is true of an object, without a model that judges.

A question comes with what a right answer says (`gmn_encoder.objects.dialogues.Asked`). An answer is taken at its first word of
the kind that was asked for: the first thing it names, the first colour, yes or no, the first number. Where it says none, it is
wrong.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmn_encoder.files import StrPath
from gmn_encoder.objects.colour_names import basic_colour
from gmn_encoder.objects.language import NUMBER_WORDS
from gmn_encoder.objects.names import name_rules
from gmn_encoder.objects.procedural.catalogue import CLASS_NAMES, class_nouns
from gmn_encoder.objects.procedural.materials import COLOURS

from ..tables import Cell, Column, Table

KINDS = ("name", "main colour", "yes or no", "count", "part colour")
_OTHER_COLOURS = {
    "gray": "grey",
    "tan": "beige",
    "cyan": "turquoise",
    "teal": "turquoise",
    "violet": "purple",
    "magenta": "purple",
}


@dataclass(frozen=True)
class Question:
    """A question about an object, and what a right answer says.

    Attributes:
        class_id, nerf_id: the object.
        kind: one of `KINDS`.
        question: the text.
        expected: words, any of which makes an answer right.
        topic: what it is about.
    """

    class_id: str
    nerf_id: str
    kind: str
    question: str
    expected: Sequence[str]
    topic: str = ""


def read_questions(path: StrPath) -> list[Question]:
    """The questions of a ``questions.json`` whose answers can be marked.

    Raises `FileNotFoundError`, and `ValueError` for a file that is none.
    """
    try:
        found = [Question(**values) for values in json.loads(Path(path).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected the questions that make_training_set writes") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no list of questions ({error})") from error
    return [each for each in found if each.kind in KINDS]


@functools.cache
def category_words() -> dict[str, tuple[str, ...]]:
    """Category -> every word that names things of it."""
    words = {
        name: tuple(dict.fromkeys(word for word in (category.noun, *category.words) if word))
        for name, category in name_rules().categories.items()
    }
    for name in CLASS_NAMES:
        words[name] = tuple(dict.fromkeys((*class_nouns(name), *words.get(name, ()))))
    return {name: nouns for name, nouns in words.items() if nouns}


def accepted_names(names: Iterable[str], category: str) -> tuple[str, ...]:
    """What an object may be called: its own names, and every word for its category."""
    return tuple(dict.fromkeys((*names, *category_words().get(category, ()))))


def first_named(text: str, words: Mapping[str, Sequence[str]]) -> str | None:
    """The key whose word a text names first; of two words at one place the longer counts ("table lamp" is no table)."""
    best: tuple[int, int, str] | None = None
    for key, nouns in words.items():
        for noun in nouns:
            found = re.search(rf"\b{re.escape(noun)}(?:e?s)?\b", text, re.IGNORECASE)
            # A word that ends further on names the thing: "coffee table" before "coffee".
            if found and (best is None or (found.start(), -len(noun)) < best[:2]):
                best = (found.start(), -len(noun), key)
    return best[2] if best else None


def named_category(text: str, category: str, names: Iterable[str] = ()) -> str | None:
    """The category that a text names first, an object's own names standing for its own category; None where it names none."""
    return first_named(text, {**category_words(), category: accepted_names(names, category)})


def named_colours(text: str) -> list[str]:
    """The basic colours that a text names, in its order."""
    words = re.findall(_COLOUR, text.lower())
    return [basic_colour(_OTHER_COLOURS.get(word, word)) for word in words]


_COLOUR = r"\b(?:" + "|".join(sorted([*COLOURS, *_OTHER_COLOURS], key=len, reverse=True)) + r")\b"


def is_right(kind: str, expected: Sequence[str], answer: str, *, category: str = "") -> bool:
    """Whether an answer says what is expected.

    Args:
        kind: one of `KINDS`.
        expected: what a right answer says: names, basic colours, yes or no, a number in letters and digits.
        answer: the answer.
        category: of names, the object's category, all of whose words are right too.

    Raises:
        ValueError: another kind.
    """
    if kind == "name":
        return named_category(answer, category, expected) == category
    if kind in ("main colour", "part colour"):
        return next(iter(named_colours(answer)), None) in expected
    if kind == "yes or no":
        found = re.match(r"\W*(yes|no)\b", answer.lower())
        return found is not None and found.group(1) in expected
    if kind == "count":
        found = re.search(rf"\b(\d+|{'|'.join(NUMBER_WORDS)})\b", answer.lower())
        return found is not None and found.group(1) in expected
    raise ValueError(f"answers to questions of kind {kind!r} cannot be marked; expected one of {', '.join(KINDS)}")


def colour_pair(expected: Sequence[str], answer: str) -> tuple[str, str | None]:
    """For `confusion_table`: the right colour, of several the one that was named, and the first colour of an answer."""
    named = next(iter(named_colours(answer)), None)
    return (named if named is not None and named in expected else expected[0]), named


def confusion_table(
    title: str, named: Iterable[tuple[str, str | None]], *, what: str = "things", most: int = 30
) -> Table:
    """What things of each category, or main colours, were called.

    Args:
        title: the table's title.
        named: (category, category that the answer named or None) of each answer.
        what: what the rows are.
        most: rows to show, of the categories with most answers.
    """
    counts: dict[str, Counter[str]] = {}
    for category, said in named:
        counts.setdefault(category, Counter())[said or "nothing"] += 1
    rows: list[Sequence[Cell]] = []
    for category, found in sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:most]:
        total = sum(found.values())
        wrong = ", ".join(f"{name} {count}" for name, count in found.most_common() if name != category)
        rows.append([category, total, 100 * found[category] / total, wrong])
    return Table(title, [what, "answers", Column("named right (%)", digits=1), "named something else"], rows)
