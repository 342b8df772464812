"""The command line of a function, which launchers use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest

from gmn_encoder.command_line import argument_parser, parse_arguments
from gmn_encoder.files import StrPath


def function(
    source: StrPath,
    words: Sequence[str] = ("a",),
    *,
    size: int,
    rate: float = 0.5,
    way: Literal["here", "there"] = "here",
    deep_inside: bool = False,
    names: Sequence[str] | None = None,
    table: Mapping[str, str] | None = None,
) -> None:
    """Does nothing.

    Args:
        source: where it comes from,
            in some words.
        rate: 100 % of it.
    """


@dataclasses.dataclass(kw_only=True)
class Settings:
    """Settings.

    Attributes:
        place: the place.
    """

    place: Path
    count: int = 3


def test_what_is_given_is_typed_and_the_rest_left_out():
    words = ["in", "x", "y", "--size", "3", "--way", "there", "--deep-inside", "--names", "p", "q"]
    assert parse_arguments(function, words) == {
        "source": "in", "words": ["x", "y"], "size": 3, "way": "there", "deep_inside": True, "names": ["p", "q"],
    }  # fmt: skip
    assert parse_arguments(function, ["in", "--size", "3"]) == {"source": "in", "size": 3}
    assert parse_arguments(Settings, ["--place", "a/b"]) == {"place": Path("a/b")}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--size", "3"], "source"),
        (["in"], "--size"),
        (["in", "--size", "large"], "--size"),
        (["in", "--size", "3", "--way", "elsewhere"], "--way"),
        (["in", "--size", "3", "--table", "a"], "--table"),
    ],
)
def test_what_a_function_does_not_take_is_refused(words, named, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(function, words)
    assert named in capsys.readouterr().err


def test_help_is_the_docstrings_and_names_defaults():
    text = " ".join(argument_parser(function).format_help().split())
    assert "which launchers use." in text
    assert "where it comes from, in some words" in text and "100 % of it (default: 0.5)" in text
    assert "the place" in argument_parser(Settings).format_help()
