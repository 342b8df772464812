"""Directories that appear whole or not at all (files: tests/encoder/nerfs/test_files.py)."""

from __future__ import annotations

import pytest

from gmn_encoder.files import atomic_directory


def test_a_directory_appears_whole(tmp_path):
    with atomic_directory(tmp_path / "a" / "b") as directory:
        (directory / "x").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "x").read_text() == "1"
    with pytest.raises(ValueError, match="b: is there already"), atomic_directory(tmp_path / "a" / "b"):
        pass
    with atomic_directory(tmp_path / "a" / "b", replace=True) as directory:
        (directory / "y").write_text("2")
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["y"]
    with pytest.raises(ValueError, match="y: is a file"), atomic_directory(tmp_path / "a" / "b" / "y", replace=True):
        pass
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b"]


def test_a_failure_leaves_what_was_there_and_names_the_directory(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    with (
        pytest.raises(OSError, match=r"^[^ ]*/out: cannot be written: No such file"),
        atomic_directory(tmp_path / "out", replace=True) as directory,
    ):
        (directory / "nowhere" / "x").write_text("")
    # What the block reads elsewhere is not the directory's fault.
    with pytest.raises(OSError, match="Is a directory"), atomic_directory(tmp_path / "other"):
        (tmp_path / "out").read_text()
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "old"]
