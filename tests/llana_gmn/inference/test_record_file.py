"""Records that survive a kill, are shared by processes, and are done again where what they were asked of changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llana_gmn.inference.record_file import RecordFile, remove_records

SETTINGS = {"model": "m", "max_new_tokens": 5}


def open_file(path, names="abcdef", *, of=None, settings=SETTINGS, **place):
    asked = {name: {"question": "What?", "of": (of or {}).get(name, 1)} for name in names}
    return RecordFile(path, asked, settings=settings, **place)


def records(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_processes_share_the_work_and_the_file_keeps_the_order(tmp_path):
    path = tmp_path / "out.jsonl"
    files = [open_file(path, rank=rank, world_size=3) for rank in range(3)]
    files[0].start()
    shares = [file.missing() for file in files]
    assert sorted(nerf for share in shares for nerf in share) == list("abcdef")
    for file, share in reversed(list(zip(files, shares, strict=True))):
        for nerf in share:
            file.append(nerf, {"caption": f"caption {nerf} \u2028 é"})
    assert files[0].finish() == 6
    lines = [json.loads(line) for line in path.read_text().strip().split("\n")]
    assert [line["name"] for line in lines] == list("abcdef")
    assert lines[0] == {"name": "a", "question": "What?", "of": 1, "caption": "caption a \u2028 é"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.settings.json"]
    again = open_file(path)
    assert again.missing() == []
    assert list(again.done) == list("abcdef") and not again.changed


def test_an_interrupted_run_continues_with_another_number_of_processes(tmp_path):
    path = tmp_path / "out.jsonl"
    first = open_file(path, rank=1, world_size=2)
    first.start()
    first.append("e", {"caption": "caption e"})
    first.append("d", {"caption": "caption d"})
    part = tmp_path / "out.jsonl.part-1"
    part.write_text(part.read_text()[:-9])  # killed in the middle of a line
    second = open_file(path)
    assert second.missing() == ["a", "b", "c", "d", "f"]
    for nerf in second.missing():
        second.append(nerf, {"caption": "new"})
    second.finish()
    assert [(r["name"], r["caption"]) for r in records(path)][3:5] == [("d", "new"), ("e", "caption e")]
    more = open_file(path, names="xa")
    assert more.missing() == ["x"]
    more.append("x", {"caption": "new"})
    assert more.finish() == 7
    assert [r["name"] for r in records(path)] == list("bcdefxa")


def test_other_settings_and_other_files_are_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    file = open_file(path)
    file.start()
    file.append("a", {"caption": "x"})
    with pytest.raises(ValueError, match="was begun with max_new_tokens 5, now 6; name another file, or --overwrite"):
        open_file(path, settings={**SETTINGS, "max_new_tokens": 6})
    with pytest.raises(
        ValueError, match="was begun without model_sha256, now 'abc'; name another file, or --overwrite"
    ):
        open_file(path, settings={**SETTINGS, "model_sha256": "abc"})
    with pytest.raises(ValueError, match="was begun with max_new_tokens 5, now without it"):
        open_file(path, settings={"model": "m"})
    remove_records(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("my notes\n")
    with pytest.raises(ValueError, match="is there already, and not of this command"):
        open_file(path)


def test_a_record_of_something_else_is_done_again_and_never_returned(tmp_path):
    path = tmp_path / "out.jsonl"
    first = open_file(path)
    first.start()
    for name in "abcd":
        first.append(name, {"caption": f"old {name}"})
    first.finish()
    second = open_file(path, of={"b": 2, "e": 2})
    assert (second.done, second.changed, second.missing()) == (["a", "c", "d"], ["b"], ["b", "e", "f"])
    assert sorted(second.records()) == ["a", "c", "d"]
    second.append("b", {"caption": "new b"})  # killed here
    third = open_file(path, of={"b": 2, "e": 2})
    assert (third.changed, third.missing()) == ([], ["e", "f"])
    assert third.finish() == 4
    assert [(each["name"], each["of"], each["caption"]) for each in records(path)] == [
        *(("a", 1, "old a"), ("b", 2, "new b"), ("c", 1, "old c"), ("d", 1, "old d"))
    ]
