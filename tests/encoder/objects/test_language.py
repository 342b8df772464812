"""Language: the exact JSON, and no claim that the object does not bear out."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from gmn_encoder.objects import CLASS_NAMES, conversations, generate, write_texts
from gmn_encoder.objects.language import NUMBER_WORDS as _NUMBERS
from gmn_encoder.objects.language import claims, predicate
from gmn_encoder.objects.procedural.catalogue import nouns
from gmn_encoder.objects.procedural.materials import COLOURS
from gmn_encoder.objects.procedural.topics import TEXTS, ClassTexts, class_texts

SEEDS = range(40)


@pytest.fixture(scope="module", params=CLASS_NAMES)
def some(request):
    return [generate(request.param, seed) for seed in SEEDS]


def answers(thing, seed=0) -> list[str]:
    return [
        turn["value"]
        for entry in conversations(thing, seed=seed)
        for turn in entry["conversations"]
        if turn["from"] == "gpt"
    ]


def test_entries_have_the_exact_form(some):
    for thing in some[:10]:
        entries = conversations(thing)
        kinds = [entry["conversation_type"] for entry in entries]
        assert kinds == ["brief_description", "detailed_description", *["single_round"] * 3, "multi_round"]
        for entry in entries:
            assert list(entry) == ["object_id", "conversation_type", "conversations"]
            assert entry["object_id"] == thing.object_id
            turns = entry["conversations"]
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
            assert len(turns) == (6 if entry["conversation_type"] == "multi_round" else 2)
            assert turns[0]["value"].startswith("<point>\n")
            assert all("<point>" not in turn["value"] for turn in turns[1:])
            assert all(set(turn) == {"from", "value"} for turn in turns)


def test_texts_read_well(some):
    for thing in some:
        for entry in conversations(thing):
            for turn in entry["conversations"]:
                text = turn["value"].removeprefix("<point>\n")
                assert text and not re.search(r"[{}_]|  |None|True|False", text), text
                assert text[0].isupper() and text[-1] in ".?", text
                assert not re.search(r"\ba [aeio](?!ne\b)", text) and not re.search(
                    r"\ban [bcdfgjklmnpqrstvwxyz]", text
                ), text
        assert 20 < len(answers(thing)[0]) < 200
        assert len(answers(thing)[1]) > 80


def test_every_colour_that_is_named_is_there(some):
    names = sorted(COLOURS, key=len, reverse=True)
    for thing in some:
        present = {name for colours in thing.colours.values() for name in colours}
        present |= {value for value in thing.parameters.values() if value in COLOURS}
        present |= {"black"} if thing.class_name == "car" else set()  # tyres
        for claim in claims(thing):
            for text in (*claim.facts, claim.phrase):
                rest = text.lower()
                for name in names:
                    if re.search(rf"\b{name}\b", rest):
                        assert name in present, (thing.object_id, text)
                        rest = re.sub(rf"\b{name}\b", "", rest)


def test_every_number_that_is_claimed_is_a_parameter_or_a_count(some):
    """Counts in texts come from parameters, or stand in the template of a topic whose condition implies them."""
    for thing in some:
        numbers = {
            value for value in thing.parameters.values() if isinstance(value, int) and not isinstance(value, bool)
        }
        numbers |= set(thing.counts.values())
        for claim in claims(thing):
            for text in (*claim.facts, claim.phrase):
                for word in re.findall(r"\b(two|three|four|five|six|seven|eight|nine|ten|twelve)\b", text.lower()):
                    implied = {
                        "chair": {5}, "car": {3}, "phone": {3, 4}, "display": {2}, "lamp": {2}, "bench": {2}, "sofa": {2},
                        "rifle": {2}, "airplane": {1, 2, 3}, "table": {2}, "watercraft": {2}, "speaker": {4},
                    }.get(thing.class_name, set())  # fmt: skip
                    assert _NUMBERS.index(word) in numbers | implied, (thing.object_id, text, numbers)


FEATURES = {
    "chair": [("armrests", "arms", True), ("castors", "support", "star")],
    "bench": [("armrests", "arms", True)],
    "rifle": [("scope", "scope", True), ("magazine", "magazine", ("curved", "straight"))],
    "table": [("shelf", "shelf", True)],
    "car": [("spoiler", "extra", "spoiler"), ("roof rack", "extra", "roof rack"), ("light bar", "extra", "light bar")],
    "speaker": [("tweeter", "tweeter", True)],
    "watercraft": [("oars", "oars", True), ("funnel", "funnel", True)],
    "phone": [("home button", "home_button", True), ("antenna", "antenna", True)],
    "airplane": [("wheels", "gear", True)],
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_claimed_exactly_where_their_parts_are(name):
    for seed in SEEDS:
        thing = generate(name, seed)
        said = " ".join(fact for claim in claims(thing) if claim.reply != "No" for fact in claim.facts).lower()
        for label, key, value in FEATURES[name]:
            wanted = value if isinstance(value, tuple) else (value,)
            if key in thing.parameters:
                has = thing.parameters[key] in wanted
                assert (label in thing.counts) == has, (thing.object_id, label)
            if label not in thing.counts and f"no {label}" not in said:
                assert not re.search(rf"\b{label}\b", said), (thing.object_id, label)
            denied = " ".join(fact for claim in claims(thing) if claim.reply == "No" for fact in claim.facts).lower()
            if label in thing.counts:
                assert f"no {label}" not in denied, (thing.object_id, label)


def test_legs_in_texts_are_legs_of_the_mesh():
    for name in ("chair", "table", "bench", "cabinet", "lamp", "display"):
        for seed in SEEDS:
            thing = generate(name, seed)
            said = " ".join(fact for claim in claims(thing) for fact in claim.facts).lower()
            for word in re.findall(r"\b(two|three|four|five)\b(?: \w+){0,4}? legs\b", said):
                pair = 2 if "two pairs of" in said else 1
                assert thing.mesh.part_names.count("legs") == pair * _NUMBERS.index(word), (thing.object_id, said)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_files_of_texts_fit_their_objects(name):
    """No dead text: each case holds, and each kind, parameter and surface is there, in one of the first 150 objects."""
    texts = class_texts(name)
    cases = [case for topic in texts.topics for case in topic.cases]
    declared = {*texts.parameters, *texts.surfaces, *texts.nouns}
    seen: set[str] = set()
    for seed in range(150):
        thing = generate(name, seed)
        assert set(thing.parameters) <= set(texts.parameters) and set(thing.surfaces) <= set(texts.surfaces)
        seen |= {*thing.parameters, *thing.surfaces, thing.parameters["kind"]}
        cases = [case for case in cases if not case.holds(thing.parameters)]
        if not cases and seen == declared:
            break
    assert not cases and seen == declared


def test_every_file_of_texts_is_read():
    assert {path.name for path in TEXTS.iterdir()} == {f"{name}.yaml" for name in CLASS_NAMES}


GOOD = """
parameters: [kind, arms]
surfaces: [seat cushions]
main: seat cushions
nouns: {sofa: [sofa]}
topics:
- ask: ["Are there armrests?"]
  cases:
  - when: {arms: true}
    say: ["It has armrests beside its {seat_cushions_look} cushions."]
    reply: "Yes"
    phrase: armrests of a {kind}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("phrase:", "phrases:", "unknown setting 'phrases'; did you mean 'phrase'?"),
        (
            "{kind}",
            "{kinds}",
            r"the placeholder {kinds} in 'armrests of a {kinds}' is unknown; expected one of arms, kind, seat",
        ),
        ("cushions_look", "cushions look", "the placeholder {seat_cushions look} in 'It has"),
        ("{arms:", "{legs:", "the condition 'legs' of 'It has .*' is unknown; expected one of arms, kind$"),
        ('"Yes"', "Yes", "reply is True; expected text"),
        ('"Yes"', "yes!", 'reply is \'yes!\'; expected "Yes" or "No"'),
        ("say:", "#", r"say is \[\]; expected a list of sentences"),
        ("armrests?", "armrests", r"ask is \['Are there armrests'\]; expected a list of sentences"),
        ("main: seat cushions", "main: seat", "main is 'seat'; expected one of the surfaces seat cushions"),
    ],
)
def test_mistakes_in_a_file_of_texts_are_named(tmp_path, old, new, message):
    file = tmp_path / "sofa.yaml"
    file.write_text(GOOD)
    assert ClassTexts.load(file).topics[0].cases[0].holds({"arms": True})
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=f"sofa.yaml: {message}"):
        ClassTexts.load(file)


def test_texts_are_those_of_always():
    """A seeded draw falls on another text as soon as the order of a file changes."""
    texts = json.dumps([conversations(generate(name, 11)) for name in CLASS_NAMES])
    assert (
        hashlib.sha256(texts.encode()).hexdigest() == "efed05c97732923f8547d7ba8691c6d2c0212a9d2484599b291c32392ff195b1"
    )


def test_wording_varies_and_is_repeatable(some):
    thing = some[0]
    assert conversations(thing, seed=1) == conversations(thing, seed=1)
    texts = {json.dumps(conversations(thing, seed=seed)) for seed in range(12)}
    assert len(texts) == 12
    assert len({answers(other)[0] for other in some}) > 0.8 * len(some)


def test_yes_and_no_only_answer_questions_that_ask_for_them(some):
    for thing in some:
        for seed in (0, 1):
            for entry in conversations(thing, seed=seed):
                turns = entry["conversations"]
                for question, answer in zip(turns[::2], turns[1::2], strict=True):
                    if answer["value"].startswith(("Yes,", "No,")):
                        assert re.match(r"(<point>\n)?(Is|Are|Does|Do|Can)\b", question["value"]), question


def test_nouns_exist_for_every_kind(some):
    for thing in some:
        assert len(nouns(thing)) == 3


def test_predicates():
    assert predicate("dark brown wood") == "dark brown with a wood grain"
    assert predicate("red-dotted light blue") == "light blue with red dots"
    assert predicate("red and white striped") == "red and white striped"


def test_texts_files(tmp_path):
    things = [generate(name, 1) for name in CLASS_NAMES]
    brief, rest = write_texts(iter(things), tmp_path / "texts", single_rounds=2)
    assert brief.name == "conversations_brief.json" and rest.name == "conversations_complex.json"
    content = json.loads(brief.read_text())
    assert [entry["object_id"] for entry in content] == [thing.object_id for thing in things]
    assert {entry["conversation_type"] for entry in content} == {"brief_description"}
    content = json.loads(rest.read_text())
    assert len(content) == 13 * 4
    assert {entry["conversation_type"] for entry in content} == {"detailed_description", "single_round", "multi_round"}
    with pytest.raises(ValueError, match="given twice"):
        write_texts([things[0], things[0]], tmp_path / "again")
    assert not (tmp_path / "again").exists()
