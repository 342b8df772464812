"""Marks against the truth: what counts as right, and what does not."""

from __future__ import annotations

import json

import pytest

from llana_eval.captioning.marking import (
    colour_pair,
    confusion_table,
    is_right,
    named_category,
    named_colours,
    read_questions,
)


@pytest.mark.parametrize(
    ("kind", "expected", "answer", "category", "right"),
    [
        ("name", ["floor lamp"], "A table lamp.", "lamp", True),  # the class is right
        ("name", ["chair"], "It is a table.", "chair", False),
        ("name", ["coffee table"], "It is a coffee table.", "table", True),
        ("name", ["coffee machine"], "It looks like a coffee machine.", "coffee machine", True),
        ("name", ["shark"], "It is a fish.", "fish", True),
        ("name", ["fire engine"], "A boat.", "car", False),
        ("name", ["key"], "This is a key phone.", "key", False),
        ("name", ["chair"], "A table with a chair.", "chair", False),  # the first thing counts
        ("name", ["chair"], "Something.", "chair", False),
        ("name", ["bus"], "Two buses.", "bus", True),
        ("main colour", ["blue"], "Mostly dark blue and red.", "", True),
        ("main colour", ["grey"], "Gray.", "", True),
        ("main colour", ["red"], "Blue and red.", "", False),
        ("main colour", ["red"], "It is tall.", "", False),
        ("part colour", ["brown"], "The legs are brown with a wood grain.", "", True),
        ("yes or no", ["yes"], "Yes.", "", True),
        ("yes or no", ["no"], " No, it is a chair.", "", True),
        ("yes or no", ["no"], "Nothing.", "", False),
        ("count", ["four", "4"], "It has four legs.", "", True),
        ("count", ["four", "4"], "It has 4 legs.", "", True),
        ("count", ["four", "4"], "Fourteen.", "", False),
        ("count", ["four", "4"], "Three or four.", "", False),
    ],
)
def test_answers_are_marked_by_the_first_thing_they_say(kind, expected, answer, category, right):
    assert is_right(kind, expected, answer, category=category) is right


def test_what_an_answer_names():
    assert named_category("It is a floor lamp beside a table.", "chair", ["chair"]) == "lamp"
    assert named_category("Hm.", "chair", ["chair"]) is None
    assert named_colours("A dark-red or light green thing, partly magenta") == ["red", "green", "purple"]
    with pytest.raises(ValueError, match="of kind 'taste' cannot be marked"):
        is_right("taste", [], "Sweet.")


def test_what_things_were_called_instead():
    table = confusion_table("Called", [("chair", "chair"), ("chair", "sofa"), ("chair", None), ("lamp", "lamp")])
    assert [list(row) for row in table.rows] == [
        ["chair", 3, pytest.approx(100 / 3), "sofa 1, nothing 1"],
        ["lamp", 1, 100.0, ""],
    ]


def test_files_of_questions_that_are_broken_are_named(tmp_path):
    file = tmp_path / "questions.json"
    with pytest.raises(FileNotFoundError, match="expected the questions that make_training_set writes"):
        read_questions(file)
    asked = {"class_id": "c", "nerf_id": "n", "kind": "name", "question": "What?", "expected": ["chair"]}
    file.write_text(json.dumps([asked, {**asked, "kind": ""}]))
    (found,) = read_questions(file)
    assert found.expected == ["chair"] and found.topic == ""
    file.write_text('[{"question": 3}]')
    with pytest.raises(ValueError, match=r"questions.json: is no list of questions"):
        read_questions(file)


def test_colours_and_what_they_were_called():
    assert colour_pair(("red", "blue"), "It is mostly dark blue, with red.") == ("blue", "blue")
    assert colour_pair(("red", "blue"), "It is green.") == ("red", "green")
    assert colour_pair(("red",), "I cannot tell.") == ("red", None)
    table = confusion_table("Called", [("red", "red"), ("red", "pink")], what="colours")
    assert table.columns[0].name == "colours" and table.rows == (("red", 2, 50.0, "pink 1"),)
