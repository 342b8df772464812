import time

import pytest

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.datasets import NerfDataset, PairedDataset, read_split, scan


def _touch(root, family, *members):
    for member in members:
        directory = root / family / member
        directory.mkdir(parents=True)
        (directory / "nerf_weights.pth").touch()


def test_split_files_stand_above_the_family_and_give_the_order(tmp_path):
    _touch(tmp_path, "hash", "02/b", "01/a", "01/c")
    (tmp_path / "train.txt").write_text("02/b\n  01/a \n\n")
    members = NerfDataset(tmp_path / "hash", "train")
    assert members.object_ids == [("02", "b"), ("01", "a")]
    assert [entry.object_id for entry in members[:]] == members.object_ids
    assert members[1].path == tmp_path / "hash" / "01" / "a"
    assert NerfDataset(tmp_path / "hash").object_ids == [("01", "a"), ("01", "c"), ("02", "b")]
    assert len(list(members)) == 2


def test_items_are_read_when_asked_for(tmp_path):
    nerf = Nerf.random("HASH-3N")
    save_nerf(nerf, tmp_path / "hash" / "01" / "a")
    _touch(tmp_path, "hash", "01/broken")
    members = NerfDataset(tmp_path / "hash")
    assert members[0].load().architecture == nerf.architecture
    with pytest.raises(ValueError, match=r"broken/nerf_weights\.pth: is empty"):
        members[1].load()
    with pytest.raises(FileNotFoundError, match=r"grid\.pth"):
        members[0].grid()


def test_missing_members_are_named(tmp_path):
    _touch(tmp_path, "hash", "01/a", "01/b")
    _touch(tmp_path, "mlp", "01/a")
    (tmp_path / "val.txt").write_text("01/a\n01/b\n")
    members = NerfDataset(tmp_path / "mlp", "val")
    assert members.missing() == [("01", "b")]
    with pytest.raises(FileNotFoundError, match="01/b: no such NeRF directory"):
        members[1].load()
    with pytest.raises(ValueError, match="1 of 2 objects of the list are missing in mlp, such as 01/b"):
        PairedDataset(tmp_path, ("hash", "mlp"), split="val")
    pairs = PairedDataset(tmp_path, ("hash", "mlp"))
    assert pairs.object_ids == [("01", "a")]
    assert {family: entry.path.parts[-3] for family, entry in pairs[0].items()} == {"hash": "hash", "mlp": "mlp"}


def test_pairs_go_by_class_and_name(tmp_path):
    _touch(tmp_path, "hash", "01/same", "02/same")
    _touch(tmp_path, "mlp", "02/same")
    assert PairedDataset(tmp_path, ("hash", "mlp")).object_ids == [("02", "same")]
    _touch(tmp_path, "triplane", "03/same")
    with pytest.raises(ValueError, match="no object is there in all of hash, triplane"):
        PairedDataset(tmp_path, ("hash", "triplane"))


def test_bad_lists_are_refused(tmp_path):
    _touch(tmp_path, "hash", "01/a")
    with pytest.raises(FileNotFoundError, match=r"train\.txt: no such list"):
        NerfDataset(tmp_path / "hash", "train")
    for text, message in (
        ("justone\n", "line 1 is 'justone'"),
        ("01/a\n01/a\n", "line 2 repeats line 1"),
        ("01/..", "line 1"),
    ):
        (tmp_path / "train.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_split(tmp_path / "train.txt")
    with pytest.raises(FileNotFoundError, match="no such directory"):
        NerfDataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no NeRFs"):
        NerfDataset(tmp_path / "empty")


def test_hidden_and_unfinished_directories_are_left_out(tmp_path):
    _touch(tmp_path, "hash", "01/a", "01/.a.x.tmp", ".fit/b")
    assert list(scan(tmp_path / "hash")) == [("01", "a")]


def test_many_are_listed_in_seconds(tmp_path):
    """20,000 directories here; it grows with their number, so 100,000 take five times as long."""
    for class_id in range(10):
        (tmp_path / f"{class_id:02d}").mkdir()
        for number in range(2000):
            (tmp_path / f"{class_id:02d}" / f"{number:05d}").mkdir()
    started = time.process_time()
    assert len(NerfDataset(tmp_path)) == 20_000
    assert time.process_time() - started < 2.0
