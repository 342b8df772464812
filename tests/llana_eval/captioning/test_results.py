from __future__ import annotations

import json

import pytest

from llana_eval.captioning.results import duplicates, read_results

GOOD = [
    {"object_id": "a", "question": "What?", "ground_truth": "A chair.", "model_output": "A stool."},
    {"object_id": "b", "question": "What?", "ground_truth": "A table.", "model_output": ""},
]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("llana.json", GOOD),
        ("ours.json", {"results": GOOD, "settings": {"seed": 0}}),
        ("lines.jsonl", "".join(json.dumps(each) + "\n" for each in GOOD)),
        ("lines.txt", "\n".join(json.dumps(each) for each in GOOD)),
    ],
)
def test_every_kind_of_file(tmp_path, name, content):
    found = read_results(write(tmp_path / name, content))
    assert found.records == GOOD
    assert found.problems == []


def test_pointllms_question_stands_once(tmp_path):
    bare = [{key: value for key, value in each.items() if key != "question"} for each in GOOD]
    found = read_results(write(tmp_path / "p.json", {"prompt": "What?", "results": bare}))
    assert found.records == GOOD


def test_entries_that_cannot_be_scored_are_named(tmp_path):
    entries = [
        GOOD[0],
        "text",
        {"ground_truth": "x", "model_output": "y"},
        {"object_id": "c", "ground_truth": "x"},
        {"object_id": "d", "model_output": "x"},
        {"object_id": "e", "ground_truth": "x", "model_output": 3},
        {"object_id": "f", "ground_truth": " ", "model_output": "x"},
        GOOD[1],
    ]
    found = read_results(write(tmp_path / "r.json", entries))
    assert found.records == GOOD
    messages = [
        "result 1: is a str; expected an object",
        "result 2: object_id is missing",
        "result 3: (object 'c') a reference without a prediction, model_output is missing",
        "result 4: (object 'd') ground_truth is missing",
        "result 5: (object 'e') model_output is a int; expected text",
        "result 6: (object 'f') ground_truth is empty",
    ]
    assert len(found.problems) == len(messages)
    for problem, message in zip(found.problems, messages, strict=True):
        assert problem.startswith(f"{tmp_path / 'r.json'}: {message}")


def test_a_line_cut_short_is_named_and_the_others_stay(tmp_path):
    text = json.dumps(GOOD[0]) + "\n" + json.dumps(GOOD[1])[:-9]
    found = read_results(write(tmp_path / "r.jsonl", text))
    assert found.records == GOOD[:1]
    assert "r.jsonl: line 2: is no JSON, or cut short" in found.problems[0]


def test_duplicates_are_named_and_kept(tmp_path):
    found = read_results(write(tmp_path / "r.json", [*GOOD, {**GOOD[0], "model_output": "Another."}]))
    assert len(found.records) == 3
    (problem,) = found.problems
    assert "object 'a' is there 2 times with the question 'What?' and the same reference; all are scored" in problem
    assert duplicates([*GOOD, {**GOOD[0], "question": "Why?"}]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(GOOD)[:-20], "is no JSON, or cut short"),
        ("", "is no JSON, or cut short"),
        ("7", "holds a JSON int; expected a list of results"),
        ('{"scores": []}', "object_id is missing"),
        ("[]", "holds no result that can be scored; expected object_id"),
        ('[{"object_id": "a"}]', "holds no result that can be scored: .*ground_truth is missing"),
    ],
)
def test_files_that_are_no_results(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_results(write(tmp_path / "r.json", content))


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; expected the results of a model"):
        read_results(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe[]")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        read_results(tmp_path / "b.json")
