"""Language from truth: nothing is said that is not true, in texts and in the questions that answers are marked by."""

from __future__ import annotations

import json
import re

import pytest

from gmn_encoder.nerfs.recolouring import Recolouring
from gmn_encoder.objects import CLASS_NAMES, generate
from gmn_encoder.objects.comparisons import comparison_entries
from gmn_encoder.objects.dialogues import dialogue_entries, entries_of, marked_questions, wordings
from gmn_encoder.objects.measuring import Measurements
from gmn_encoder.objects.names import manifest_name, name_rules, procedural_name, with_article
from gmn_encoder.objects.procedural.materials import COLOURS
from gmn_encoder.objects.truth import ObjectTruth, known_parts, recoloured_subject, twin_id

MEASURED = Measurements([(0.8, 0.15, 0.15, 0.7), (0.15, 0.37, 0.78, 0.3)], (0.4, 0.5, 1.0), True)


def real(name="fire truck", category="car", **changes) -> ObjectTruth:
    named = manifest_name({"name": name, "category": category})
    values = {"colours": MEASURED.colours, "extents": MEASURED.extents, "symmetric": True, **changes}
    return ObjectTruth("02958343", "fire", "real", named, **values)


def procedural(subject, measured=MEASURED, recolouring=0) -> ObjectTruth:
    ids = (subject.class_id, twin_id(subject.object_id, recolouring))
    values = {"colours": measured.colours, "extents": measured.extents, "symmetric": measured.symmetric}
    parts = known_parts(subject)
    return ObjectTruth(*ids, "procedural", procedural_name(subject), **values, recolouring=recolouring, **parts)


def sentences(entries) -> list[str]:
    return [turn["value"] for each in entries for turn in each["conversations"] if turn["from"] == "gpt"]


@pytest.mark.parametrize(
    ("name", "category", "noun"),
    [
        ("lamp round floor", "lamp", "floor lamp"), ("normal car 2", "car", "car"), ("bed bunk", "other", "bunk bed"),
        ("cop suv", "car", "police car"), ("axe small golden", "axe or hammer", "axe"), ("suv", "car", "SUV"),
        ("chair a 01", "chair", "chair"), ("birch tree dead snow", "tree", "bare birch tree"), ("gem blue", "item", "gem"),
        ("thing of its own", "gadget", "thing of its own"),
    ],
)  # fmt: skip
def test_names_of_meshes_are_read(name, category, noun):
    assert manifest_name({"name": name, "category": category}).noun == noun


def test_what_something_is_and_what_it_certainly_is_not():
    bed = manifest_name({"name": "bed bunk", "category": "other"})
    assert bed.category == "bed" and "bed" in bed.words and bed.may_deny("car") and not bed.may_deny("bed")
    assert not manifest_name({"name": "nightstand", "category": "cabinet"}).may_deny("table")
    assert not manifest_name({"name": "coffee table", "category": "table"}).may_deny("table")
    assert manifest_name({"name": "crossbow", "category": "rifle"}).category_noun == ""
    assert [with_article(each) for each in ("chair", "apple", "SUV", "corn")] == [
        "a chair",
        "an apple",
        "an SUV",
        "corn",
    ]
    with pytest.raises(ValueError, match="expected both in the manifest"):
        manifest_name({"file": "chair.glb"})


def test_truth_follows_from_what_was_measured():
    truth = real()
    assert truth.basic_colours == pytest.approx({"red": 0.7, "blue": 0.3})
    assert truth.main_colours == ("red",) and truth.proportions == "tall" and truth.taller is True
    assert real(extents=(1.0, 0.9, 0.2)).proportions == "flat"
    assert real(extents=(1.0, 0.3, 0.5)).proportions == "long"
    assert real(extents=(1.0, 0.9, 0.9)).proportions == "compact" and real(extents=(1.0, 0.9, 0.9)).taller is None
    assert real(colours={"dark red": 0.45, "blue": 0.4, "green": 0.15}).main_colours == ("red", "blue")
    assert ObjectTruth.from_dict(json.loads(json.dumps(truth.to_dict()))) == truth
    with pytest.raises(ValueError, match="extents"):
        ObjectTruth.from_dict({**truth.to_dict(), "extents": "tall"})


def test_a_real_object_is_described_by_its_name_and_its_colours_only():
    for seed in range(30):
        for text in sentences(dialogue_entries(real(), seed=seed)):
            colours = {name for name in COLOURS if re.search(rf"\b{name}\b", text.lower())}
            denied = re.match(r"(No|Nothing)\b", text)
            assert denied or colours <= {"red", "blue"}, text
            assert not re.search(r"[{}_]|  |None", text), text
            assert text[0].isupper() and text.endswith("."), text


def test_yes_and_no_come_about_equally_often_and_are_true():
    said = {"Yes": 0, "No": 0}
    for seed in range(40):
        for each in dialogue_entries(real(), seed=seed):
            turns = [turn["value"] for turn in each["conversations"]]
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                if found := re.match(r"(Yes|No)\b(?! other| colour)", answer):
                    said[found.group()] += 1
                if re.search(r"\b(car|fire engine)\?$", question) and " or " not in question:
                    assert answer.startswith("Yes"), (question, answer)
                if re.search(r"\b(chair|lamp|tree)\?$", question) and " or " not in question:
                    assert answer.startswith("No"), (question, answer)
    assert 0.5 < said["Yes"] / said["No"] < 2


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize("number", [0, 5, 22])
def test_texts_of_procedural_objects_name_only_their_colours(name, number):
    """Recoloured ones too: no colour of before is left in what is said of parts."""
    recolouring = Recolouring.numbered(number)
    for seed in range(3):
        subject = generate(name, seed)
        if number:
            subject = recoloured_subject(subject, recolouring)
        measured = MEASURED.recoloured(recolouring) if number else MEASURED
        truth = procedural(subject, measured, number)
        allowed = {c for colours in subject.colours.values() for c in colours} | set(truth.colours)
        allowed |= set(truth.basic_colours)
        allowed |= {value for value in subject.parameters.values() if value in COLOURS}
        allowed |= {"black"} if not number and name in ("car", "airplane") else set()  # tyres
        for text in sentences(dialogue_entries(truth, subject, seed=seed)):
            if text.startswith(("No", "Nothing")):
                continue
            rest = text.lower()
            for colour in sorted(COLOURS, key=len, reverse=True):
                if re.search(rf"\b{colour}\b", rest):
                    assert colour in allowed, (text, allowed)
                    rest = re.sub(rf"\b{colour}\b", "", rest)
        assert truth.nerf_id == (f"{subject.object_id}_c{number:02d}" if number else subject.object_id)


def test_marked_questions_have_their_answers():
    car = generate("car", 5)
    asked = marked_questions(procedural(car))
    kinds = {each.kind: each for each in asked}
    assert set(kinds) == {"name", "main colour", "yes or no", "count", "part colour"}
    assert {"car", car.parameters["kind"]} <= set(kinds["name"].expected)
    assert kinds["main colour"].expected == ("red",)
    assert kinds["count"].expected == ("four", "4") and "wheels" in kinds["count"].question
    answers = [each.expected for each in asked if each.kind == "yes or no"]
    assert answers.count(("yes",)) and answers.count(("no",))
    assert marked_questions(real()) == marked_questions(real())


def test_every_wording_reads_well():
    for name, wording in wordings().items():
        for text in (*wording.ask, *wording.say, *wording.short):
            assert text.endswith((".", "?")), (name, text)
        assert len(wording.ask) > 2, name
    assert set(name_rules().categories) >= set(CLASS_NAMES)


def test_two_objects_of_one_name_are_refused():
    assert twin_id("chair-000000012", 17) == "chair-000000012_c17" and twin_id("a", 0) == "a"
    with pytest.raises(ValueError, match="fire was given twice"):
        entries_of([(real(), None), (real(), None)])


def test_two_objects_are_compared_truly():
    pine = manifest_name({"name": "pine tree", "category": "tree"})
    engine, tree = real(), ObjectTruth("tree", "tree", "real", pine, {"green": 1.0}, (0.3, 0.3, 1.0))
    said = set()
    for seed in range(60):
        for entry in comparison_entries([engine, tree], seed=seed):
            assert sorted(entry["object_ids"]) == ["fire", "tree"] and entry["object_id"] == entry["object_ids"][0]
            turns = [turn["value"] for turn in entry["conversations"]]
            assert turns[0].startswith("<point>\n<point>\n") and "<point>" not in " ".join(turns[1:])
            first = entry["object_ids"][0]
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                said.add(question)
                place = "first" if "first" in answer.lower() else "second"
                if "which" in question.lower() and "pine" not in answer and (" red" in question or "car" in question):
                    assert entry["object_ids"][["first", "second"].index(place)] == "fire", (question, answer)
                if "same" in question:
                    assert answer.startswith("No"), (question, answer)
                if answer.startswith("The first is a"):
                    assert ("fire engine, the second a pine tree" in answer) == (first == "fire"), answer
    assert len(said) > 8


def test_an_object_of_all_colours_is_denied_none():
    colourful = real(colours={name: 1 / len(COLOURS) for name in COLOURS})
    assert dialogue_entries(colourful) and marked_questions(colourful)
    for text in sentences(dialogue_entries(colourful)):
        assert not re.match(r"No, (there is no|nothing)", text)
