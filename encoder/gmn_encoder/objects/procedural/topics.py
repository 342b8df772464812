"""What there is to ask and to say about the objects of a class: data, in one YAML file per class in `texts/`.

Questions, sentences and phrases are templates: `{key}` is a parameter (numbers become words); `{label_look}` is how a surface is
named, `{label_is}` how that reads after "is". "a" becomes "an" where it must.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...settings import Settings

TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Case:
    """One answer to a topic's questions, true wherever `when` holds.

    Attributes:
        say: ways to say it, as full sentences.
        when: parameter names and the values (a list: any of them) they must have.
        reply: "Yes" or "No", put before the sentence in an answer.
        phrase: a noun phrase for short descriptions ("four legs"); none for things that are not worth it.
    """

    say: tuple[str, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)
    reply: str = ""
    phrase: str = ""

    def __post_init__(self) -> None:
        _require_sentences("say", self.say)
        if self.reply not in ("", "Yes", "No"):
            raise ValueError(f'reply is {self.reply!r}; expected "Yes" or "No", in quotes, or no reply')

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        return all(
            parameters.get(key) in value if isinstance(value, list) else parameters.get(key) == value
            for key, value in self.when.items()
        )


@dataclass(frozen=True)
class Topic:
    """Questions that ask the same (`ask`), and the cases that answer them."""

    ask: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()

    def __post_init__(self) -> None:
        _require_sentences("ask", self.ask)


@dataclass(frozen=True)
class ClassTexts(Settings):
    """A file of `texts/`.

    Attributes:
        parameters: names of the parameters that objects of the class may have.
        surfaces: labels of the parts that language may speak of.
        nouns: kind -> what such an object may be called, the most specific word first.
        topics: everything that can be asked, in the order in which seeded choices see it.
        main: the label of the surface whose look stands for the whole object ("a red car"), or "".

    Raises:
        ValueError: a topic has a condition that is no parameter, or a placeholder that neither parameters nor surfaces fill.
    """

    parameters: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    nouns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    topics: tuple[Topic, ...] = ()
    main: str = ""

    def __post_init__(self) -> None:
        fillers = {*self.parameters, *(key for label in self.surfaces for key in surface_keys(label))}
        if self.main not in ("", *self.surfaces):
            raise ValueError(f"main is {self.main!r}; expected one of the surfaces {', '.join(self.surfaces)}")
        for topic in self.topics:
            for case in topic.cases:
                for key in case.when:
                    _require_known(f"the condition {key!r} of {case.say[0]!r}", key, self.parameters)
                for text in (*topic.ask, *case.say, case.phrase):
                    for key in re.findall(r"{(.*?)}", text):
                        _require_known(f"the placeholder {{{key}}} in {text!r}", key, fillers)


def surface_keys(label: str) -> tuple[str, str]:
    """The placeholders of a surface: its look, and how that reads after "is"."""
    key = label.replace(" ", "_")
    return f"{key}_look", f"{key}_is"


@functools.cache
def class_texts(class_name: str) -> ClassTexts:
    """The texts of a class, read once."""
    return ClassTexts.load(TEXTS / f"{class_name}.yaml")


def _require_sentences(name: str, texts: tuple[str, ...]) -> None:
    if not texts or not all(text.endswith((".", "?")) for text in texts):
        raise ValueError(
            f"{name} is {list(texts)}; expected a list of sentences, each with its full stop or question mark"
        )


def _require_known(what: str, key: str, known: tuple[str, ...] | set[str]) -> None:
    if key not in known:
        raise ValueError(f"{what} is unknown; expected one of {', '.join(sorted(known))}")
