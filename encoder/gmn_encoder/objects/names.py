"""What an object is called: by its class where it is procedural, by name and category of a manifest where other people made it.

Names of mesh files are noisy: numbers, words in another order ("lamp round floor"), words of the author, colours that nobody
measured. `wording/names.yaml` says how they are read.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..settings import Settings
from .procedural.catalogue import ProceduralObject, class_nouns, nouns

WORDING = Path(__file__).parent / "wording"


@dataclass(frozen=True)
class Category:
    """A kind of things: how one is called ("" where they have no one name), other true words, the group it is mistaken within."""

    noun: str = ""
    words: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class NameRules(Settings):
    """``names.yaml``.

    Attributes:
        drop: words that say nothing about an object, or that nobody measured.
        heads: nouns that may stand first in a name, before what kind of one it is.
        exact: name without numbers -> what such an object is called.
        categories: category of a manifest, or class -> `Category`.
        exceptions: names in a category whose noun would be wrong for them.
        masses: names without an article.
        adjectives: words before a noun that leave it what it is.
        never_denied: category, or last word of a name -> nouns of other categories that come too near to be denied.
    """

    drop: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    exact: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, Category] = field(default_factory=dict)
    exceptions: tuple[str, ...] = ()
    masses: tuple[str, ...] = ()
    adjectives: tuple[str, ...] = ()
    never_denied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectName:
    """What an object is called.

    Attributes:
        noun: the most specific word for it ("fire engine").
        category: what it counts as: a class, or the category of its manifest ("car").
        category_noun: how things of that category are called; "" where they have no one name.
        words: every word that names it rightly, its noun first.
        group: the group of categories that it is mistaken within.
    """

    noun: str
    category: str
    category_noun: str
    words: tuple[str, ...]
    group: str

    @property
    def with_article(self) -> str:
        """The noun as a sentence says it: "a chair", "an SUV", "corn"."""
        return with_article(self.noun)

    def may_deny(self, noun: str) -> bool:
        """Whether "No, it is no <noun>" is certainly true."""
        said = {word for name in (*self.words, self.category) for word in name.split()}
        keys = {self.category, self.noun, self.noun.split()[-1], *self.noun.split()}
        near = {each for key in keys for each in name_rules().never_denied.get(key, ())}
        return noun not in near and not said.intersection(noun.split())


def with_article(noun: str) -> str:
    """A noun with "a" or "an", unless it is a mass."""
    if noun in name_rules().masses:
        return noun
    return f"an {noun}" if noun[0] in "aeio" or noun in ("SUV", "umbrella") else f"a {noun}"


@functools.cache
def name_rules() -> NameRules:
    return NameRules.load(WORDING / "names.yaml")


def procedural_name(subject: ProceduralObject) -> ObjectName:
    """Of a procedural object: its kind, and its class."""
    category = name_rules().categories[subject.class_name]
    own = nouns(subject)
    words = dict.fromkeys((*own, *class_nouns(subject.class_name), category.noun, *category.words))
    kinds = {noun for kind in _other_kinds(subject) for noun in kind}  # a floor lamp is no table lamp
    kinds -= {subject.class_name, category.noun, *category.words}
    words = dict.fromkeys(word for word in words if word not in kinds or word in own)
    return ObjectName(own[0], subject.class_name, category.noun, tuple(words), category.group)


def _other_kinds(subject: ProceduralObject) -> list[tuple[str, ...]]:
    from .procedural.topics import class_texts

    return [
        words for kind, words in class_texts(subject.class_name).nouns.items() if kind != subject.parameters["kind"]
    ]


def manifest_name(entry: Mapping[str, Any]) -> ObjectName:
    """Of a manifest's entry, by its "name" and "category".

    Raises `ValueError` for an entry without them.
    """
    if not isinstance(entry.get("name"), str) or not isinstance(entry.get("category"), str):
        raise ValueError(f"{entry.get('file', 'an entry')}: has no name and category; expected both in the manifest")
    rules, stated = name_rules(), entry["category"]
    tokens = [word for word in entry["name"].lower().split() if not word.isdigit() and len(word) > 1]
    noun = rules.exact.get(" ".join(tokens)) or _in_order(tokens, rules) or stated
    category = rules.categories.get(stated, Category(stated, (), "thing"))
    if stated == "other":
        stated, category = _category_of(noun, rules)
    bare = noun.split(" with ")[0]
    first, _, rest = bare.partition(" ")
    general = category.noun if noun not in rules.exceptions else ""
    words = dict.fromkeys(
        (noun, bare, rest if first in rules.adjectives else "", general, *(category.words if general else ()))
    )
    return ObjectName(noun, stated, general, tuple(word for word in words if word), category.group)


def near_twins(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What a manifest's entry has in common with its near-twins: category, and name but for digits."""
    name = re.sub(r"[\d_ ]+", "", str(entry["name"]).lower()).rstrip("s")
    return str(entry["category"]), name


def _in_order(tokens: list[str], rules: NameRules) -> str:
    kept = [word for word in tokens if word not in rules.drop or len(tokens) == 1]
    if len(kept) > 1 and kept[0] in rules.heads and kept[-1] not in rules.heads:
        kept = [*kept[1:], kept[0]]
    return " ".join(kept)


def _category_of(noun: str, rules: NameRules) -> tuple[str, Category]:
    """The category of a thing that its manifest gives none: by the last word of its name, or else it is one of its own."""
    last = noun.split(" with ")[0].split()[-1]
    for name, category in rules.categories.items():
        if category.noun and category.noun in (last, noun):
            return name, category
    return noun, Category(noun, (), "thing")
