"""Directories that appear whole or not at all (files: tests/encoder/nerfs/test_files.py)."""

from __future__ import annotations

import pytest
import torch

from gmn_encoder.files import atomic_directory, read_tensors, torch_outline
from gmn_encoder.nerfs.importers import find_importer
from tests.encoder.nerfs.importers.files import blob_checkpoint


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


@pytest.mark.parametrize("archive", [True, False])
def test_what_is_in_a_torch_file_shows_without_its_tensors(tmp_path, archive, monkeypatch):
    layer = torch.nn.Linear(2, 3)
    content = {"model": layer.state_dict(), "step": 7, "loss": {"rgb": [torch.zeros(2)], "deep": {"in": 1}}, 3: "x"}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=archive)
    monkeypatch.setattr(torch, "load", None)
    expected = {"model": ("weight", "bias"), "step": None, "loss": ("rgb", "deep"), 3: None}
    assert torch_outline(tmp_path / "a.pth") == expected
    torch.save([torch.zeros(2)], tmp_path / "list.pth", _use_new_zipfile_serialization=archive)
    assert torch_outline(tmp_path / "list.pth") == {}
    (tmp_path / "cut.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut.pth: is (no torch.save file, or )?cut short"):
        torch_outline(tmp_path / "cut.pth")
    torch.save({"model": print}, tmp_path / "code.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match=r"asks for builtins.print|asks for __builtin__.print"):
        torch_outline(tmp_path / "code.pth")


def test_whose_checkpoint_it_is_shows_without_its_tensors(tmp_path, monkeypatch):
    foreign = blob_checkpoint(tmp_path / "blob.ckpt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    monkeypatch.setattr("gmn_encoder.nerfs.importers.base.read_tensors", None)
    assert find_importer(foreign).name == "nerf-pytorch"
    assert find_importer(tmp_path / "other.pth") is None
    assert "weight" in read_tensors(tmp_path / "other.pth")[0]
