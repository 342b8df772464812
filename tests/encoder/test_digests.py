"""Content decides what changed; what a directory entry says only spares reading it again."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, field

import pytest
import torch

from gmn_encoder import digests
from gmn_encoder.digests import Digests, digest_of, files_below, plain
from gmn_encoder.files import file_digest


@pytest.fixture
def read(monkeypatch):
    """The files whose content was read."""
    found = []
    monkeypatch.setattr(digests, "file_digest", lambda file: found.append(str(file)) or file_digest(file))
    return found


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(digests, "SETTLED_SECONDS", 0)


def test_a_file_is_read_once_until_it_changes(tmp_path, read, settled):
    file, memory = tmp_path / "weights", tmp_path / "digests.json"
    file.write_bytes(b"one")
    time.sleep(0.02)
    known = Digests(memory)
    first = known.digest(file)
    assert (known.digest(file), read) == (first, [str(file)])
    known.save()
    again = Digests(memory)
    assert (again.digest(file), len(read), again.changed) == (first, 1, set())
    before = file.stat()
    with open(file, "r+b") as opened:  # the same size, and the date is put back
        opened.write(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    third = Digests(memory)
    assert third.digest(file) == file_digest(file) != first
    assert third.changed == {str(file)}


def test_other_dates_are_no_change(tmp_path, read, settled):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    known = Digests()
    first = known.digest(file)
    time.sleep(0.02)
    os.utime(file)
    shutil.copyfile(file, tmp_path / "copy")
    os.replace(tmp_path / "copy", file)
    assert (known.digest(file), known.changed, len(read)) == (first, set(), 2)


def test_a_file_that_changed_just_now_is_read_again(tmp_path, read):
    """Within a tick of the disk's clock it may change again and look the same."""
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    known = Digests()
    for _ in range(2):
        known.digest(file)
    assert len(read) == 2


def test_a_memory_that_is_none(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    for content in ("", "[]", '{"files": 3}', '{"files": {"a": [1]}}', json.dumps({"files": {str(file): ["x", 3]}})):
        (tmp_path / "digests.json").write_text(content)
        assert Digests(tmp_path / "digests.json").digest(file) == file_digest(file)


def test_what_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    known = Digests()
    assert known.digests([tmp_path / "none", tmp_path / "pipe", tmp_path]) == ["", "", ""]
    with pytest.raises(FileNotFoundError, match="none: no such file"):
        known.digest(tmp_path / "none")
    with pytest.raises(OSError, match="pipe: is not a file"):
        known.digest(tmp_path / "pipe")


def test_files_below(tmp_path):
    for name in ("b/two", "a", ".hidden/three", "b/.four"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [file.relative_to(tmp_path).as_posix() for file in files_below(tmp_path)] == ["a", "b/two"]
    assert files_below(tmp_path / "a") == [tmp_path / "a"]


@dataclass
class Thing:
    values: torch.Tensor
    name: str = "x"
    more: dict = field(default_factory=dict)
    _cache: int = 0


def test_values():
    one = Thing(torch.tensor([1.0, 2.0]), more={"b": (1, None)})
    assert plain(one) == {"values": [1.0, 2.0], "name": "x", "more": {"b": [1, None]}}
    same = Thing(torch.tensor([1.0, 2.0]), more={"b": [1, None]}, _cache=3)
    assert digest_of(one) == digest_of(same)
    for other in (torch.tensor([1.0, 3.0]), torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 2.0]).double()):
        assert digest_of(Thing(other, more={"b": (1, None)})) != digest_of(one)
