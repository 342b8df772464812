from __future__ import annotations

import json

import pytest

from gmn_encoder.objects import generate_dataset, write_texts
from llana_gmn.data.conversations import HST, Conversation, conversation_file, read_conversations
from llana_gmn.data.dataset import Dialogue


def entry(*values, object_id="a", kind="single_round"):
    speakers = ["human", "gpt"] * len(values)
    messages = [{"from": speaker, "value": value} for speaker, value in zip(speakers, values, strict=False)]
    return {"object_id": object_id, "conversation_type": kind, "conversations": messages}


def entry_from_gpt(*values):
    speakers = ["gpt", "human"] * len(values)
    messages = [{"from": speaker, "value": value} for speaker, value in zip(speakers, values, strict=False)]
    return {"object_id": "a", "conversation_type": "single_round", "conversations": messages}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_turns_come_without_the_placeholder_and_otherwise_as_they_are(tmp_path):
    path = write(
        tmp_path / "c.json",
        [
            entry("<point>\nWhat is it? ", " A café.\n"),
            entry("<nerf>\nA?", "B", "C?", "D", kind="multi_round"),
            entry("No placeholder?", "None."),
        ],
    )
    found = read_conversations(path, strict=True)
    assert found == [
        Conversation("a", "single_round", (("What is it? ", " A café.\n"),), True, 0),
        Conversation("a", "multi_round", (("A?", "B"), ("C?", "D")), True, 1),
        Conversation("a", "single_round", (("No placeholder?", "None."),), False, 2),
    ]
    assert found.problems == ()
    assert found.summary() == f"{path}: 3 conversations"


ODD_FORMS = [
    (entry("<point> Q", "A"), ("a placeholder without newline",)),
    (entry("What is <point>?", "A"), ("a placeholder in mid-text",)),
    (entry(" <point>\nQ", "A"), ("a placeholder in mid-text",)),
    (entry("Q", "A", "And <point>?", "A"), ("a placeholder in a later turn",)),
    (entry("<point>\nQ <point>", "A"), ("several placeholders",)),
    (
        entry("<point>\nQ", "A", "<point>\nQ", "A"),
        ("a placeholder in a later turn", "several placeholders"),
    ),
]


@pytest.mark.parametrize(("odd", "kinds"), ODD_FORMS)
def test_an_odd_entry_is_kept_as_it_stands_and_counted(tmp_path, caplog, odd, kinds):
    path = write(tmp_path / "c.json", [entry("<point>\nQ", "A"), odd])
    found = read_conversations(path, strict=True)
    assert found[0].odd == () and found[1].odd == kinds and found[1].has_placeholder
    values = [message["value"] for message in odd["conversations"]]
    assert found[1].turns == tuple(zip(values[::2], values[1::2], strict=True))
    assert found.odd == dict.fromkeys(kinds, 1) and found.problems == ()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"{path}: 1 dialogues with {kind}; kept, as LLaNA's loader does" for kind in kinds]


def test_an_answer_that_nobody_asked_for_is_dropped(tmp_path):
    path = write(tmp_path / "c.json", [entry_from_gpt("Hello.", "<point>\nQ", "A")])
    (found,) = read_conversations(path, strict=True)
    assert (found.turns, found.has_placeholder, found.odd) == ((("Q", "A"),), True, ("an answer first",))


MALFORMED = {
    "no object": "text",
    "no object_id": {"conversation_type": "single_round"},
    "an unsafe object_id": entry("Q", "A", object_id="../secret"),
    "an unknown conversation_type": entry("Q", "A", kind="poem"),
    "no conversations": {"object_id": "a", "conversation_type": "single_round", "conversations": []},
    "an odd number of messages": entry("Q", "A", "Q2"),
    "an odd number of messages ": entry_from_gpt("A", "Q"),
    "speakers out of turn": {
        "object_id": "a",
        "conversation_type": "single_round",
        "conversations": [{"from": "human", "value": "Q"}, {"from": "human", "value": "Q"}],
    },
    "a message without text": entry("Q", 7),
    "an empty message": entry("<point>\n  ", "A"),
    "a misplaced placeholder": entry("<point>\nQ", "A", "Q", "A <point>"),
}


@pytest.mark.parametrize(("kind", "bad"), MALFORMED.items())
def test_a_malformed_entry_is_named_and_counted(tmp_path, caplog, kind, bad):
    kind = kind.strip()
    path = write(tmp_path / "c.json", [entry("Q", "A"), bad, entry("Q", "B")])
    found = read_conversations(path)
    assert [(each.index, each.turns[0][1]) for each in found] == [(0, "A"), (2, "B")]
    (problem,) = found.problems
    assert (problem.path, problem.index, problem.kind) == (str(path), 1, kind)
    assert str(problem).startswith(f"{path}: entry 1: ")
    assert found.counts == {kind: 1}
    assert f"2 conversations, 1 entries left out (1 with {kind})" in caplog.text
    with pytest.raises(ValueError, match=r"entry 1: .*; correct the file"):
        read_conversations(path, strict=True)


@pytest.mark.parametrize("content", ["", "[{", '{"object_id": "a"}', '[{"object_id": "a", "conv', "x"])
def test_files_that_are_no_such_file(tmp_path, content):
    path = write(tmp_path / "c.json", content)
    with pytest.raises(ValueError, match=r"c\.json: (is no JSON, or cut short|holds a JSON dict)"):
        read_conversations(path)
    with pytest.raises(FileNotFoundError, match="no such file; expected a JSON list"):
        read_conversations(tmp_path / "none.json")


def test_bytes_that_are_no_utf8(tmp_path):
    (tmp_path / "c.json").write_bytes(b'["\xff\xfe"]')
    with pytest.raises(ValueError, match="is no JSON"):
        read_conversations(tmp_path / "c.json")


def test_human_written_descriptions_need_no_type(tmp_path):
    bare = entry("<point>\nQ", "A")
    del bare["conversation_type"]
    path = write(tmp_path / "hst_dataset_filtered.json", [bare])
    assert read_conversations(path, default_type=HST)[0].conversation_type == "hst"
    assert read_conversations(path).counts == {"an unknown conversation_type": 1}
    assert conversation_file(tmp_path, HST) == path


def test_procedural_texts_are_read(tmp_path):
    objects = list(generate_dataset(5))
    brief, rest = write_texts(objects, tmp_path / "language" / "test" / "texts")
    found = read_conversations(brief, strict=True)
    assert [each.object_id for each in found] == [thing.object_id for thing in objects]
    assert all(each.has_placeholder and "<point>" not in each.turns[0][0] for each in found)
    kinds = [each.conversation_type for each in read_conversations(rest, strict=True)]
    assert kinds == ["detailed_description", *["single_round"] * 3, "multi_round"] * 5
    assert conversation_file(tmp_path, "brief_description") == brief
    assert conversation_file(tmp_path, "multi_round") == rest
    with pytest.raises(FileNotFoundError, match="no such file, nor"):
        conversation_file(tmp_path, "multi_round", split="train")
    with pytest.raises(ValueError, match="'poem' is unknown"):
        conversation_file(tmp_path, "poem")


def test_conversations_about_two_objects(tmp_path):
    file = tmp_path / "conversations_comparison.json"
    turns = [{"from": "human", "value": "<point>\n<point>\nWhich one is red?"}, {"from": "gpt", "value": "The first."}]
    good = {"object_id": "a", "object_ids": ["a", "b"], "conversation_type": "comparison", "conversations": turns}
    one = [{"from": "human", "value": "<point>\nWhich one is red?"}, turns[1]]
    bad = [{**good, "conversations": one}, {**good, "object_ids": []}, {**good, "object_ids": ["a", "../b"]}]
    file.write_text(json.dumps([good, *bad]))
    found = read_conversations(file)
    (both,) = found
    assert (both.object_id, both.others, both.turns) == ("a", ("b",), (("Which one is red?", "The first."),))
    assert Dialogue.from_conversation(both).object_ids == ("a", "b") and not both.odd
    assert [problem.kind for problem in found.problems] == [
        "misplaced placeholders", "no object_id", "an unsafe object_id",
    ]  # fmt: skip
