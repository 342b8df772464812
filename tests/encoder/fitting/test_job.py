import json

import pytest
import torch

from gmn_encoder import load_nerf
from gmn_encoder.datasets import NerfDataset, PairedDataset
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.output import split_of
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.sources import Source, find_sources
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES, PAPER_ARCHITECTURES
from gmn_encoder.objects import ViewSettings
from gmn_encoder.rendering.images import rgba_over
from gmn_encoder.rendering.occupancy import read_occupancy

HASH, MLP = PAPER_ARCHITECTURES["HASH"], PAPER_ARCHITECTURES["MLP"]
UNSEEN = PAPER_ARCHITECTURES["HASH-11T"]


class _Log:
    def __init__(self, out, settings, architectures=(HASH,), **options):
        self.errors, self.done, self.skipped = [], [], []
        self.job = FitJob(
            out=out,
            settings=dict.fromkeys(architectures, settings),
            on_error=lambda error: self.errors.append(str(error)),
            on_done=lambda source, architecture, record: self.done.append((architecture.name, source.nerf_id)),
            on_skip=lambda source, architecture, record: self.skipped.append((architecture.name, source.nerf_id)),
            **options,
        )


def _source(posed, name="it"):
    return Source(name, posed.class_id, posed.nerf_id, lambda: posed)


def _fail(error):
    def load():
        raise error

    return load


def test_output_is_what_readers_read(tmp_path, posed, tiny):
    log = _Log(tmp_path, tiny, (HASH, MLP, UNSEEN))
    log.job.run([_source(posed)])
    assert log.errors == [] and len(log.done) == 3
    pairs = PairedDataset(tmp_path, ("hash", "mlp"))
    assert pairs.object_ids == [(posed.class_id, posed.nerf_id)]
    for family, entry in pairs[0].items():
        nerf = load_nerf(entry.path)
        assert nerf.family == family
        assert all(torch.equal(nerf.tensors[key], entry.load().tensors[key]) for key in nerf.tensors)
        assert entry.grid().resolution == 96
        cameras = entry.cameras()
        assert cameras.image_names == tuple(f"train/{view:02d}" for view in range(8))
        torch.testing.assert_close(cameras.camera_to_world, posed.cameras.camera_to_world)
        torch.testing.assert_close(cameras.focal, posed.cameras.focal)
        record = json.loads((entry.path / "fit.json").read_text())
        assert record["settings"] == tiny.to_dict()
        assert len(record["psnr_each"]) == 4
        assert (entry.path / "preview.png").is_file()
    files = [sorted((pairs[0][family].path / "train").glob("*.png")) for family in ("hash", "mlp")]
    assert len(files[0]) == 8
    assert files[0][3].stat().st_ino == files[1][3].stat().st_ino  # one file for both families
    unseen = NerfDataset(tmp_path / "hash_unseen" / "HASH-11T")
    assert unseen[0].load().architecture == UNSEEN
    assert not any(path.name.endswith(".tmp") for path in tmp_path.rglob("*"))


def test_written_psnr_is_that_of_the_renderer(tmp_path, posed, tiny):
    """The released files alone, through the plain field, give the PSNR that the record says."""
    from gmn_encoder.rendering.render import render_views

    _Log(tmp_path, tiny).job.run([_source(posed)])
    directory = tmp_path / "hash" / posed.class_id / posed.nerf_id
    grid = read_occupancy(directory / "grid.pth")
    white = torch.ones(3)
    seen = render_views(load_nerf(directory), posed.held_out_cameras, grid, background=white).colour
    rgba = posed.held_out.float() / 255
    true = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    psnr = -10 * torch.log10((seen - true).square().flatten(1).mean(dim=1))
    record = json.loads((directory / "fit.json").read_text())
    assert psnr.tolist() == pytest.approx(record["psnr_each"], abs=1e-3)


def test_failures_are_told_and_the_others_go_on(tmp_path, posed, tiny):
    log = _Log(tmp_path, tiny, batch=3)
    bad = Source("bad.obj", "c", "bad", _fail(ValueError("bad.obj: holds no triangles; expected a surface")))
    gone = Source("gone", "c", "gone", _fail(FileNotFoundError("train/03.png: no such image")))
    log.job.run([bad, _source(posed), gone, _source(posed, "again")])
    assert log.done == [("HASH", posed.nerf_id)]
    assert len(log.errors) == 3
    assert any(error.startswith("again: would be written over it") for error in log.errors)
    assert "bad.obj: holds no triangles; expected a surface" in log.errors
    assert "gone: train/03.png: no such image" in log.errors


def test_full_disk_leaves_nothing_behind(tmp_path, posed, tiny, monkeypatch):
    import errno

    from gmn_encoder.fitting import output

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "write_occupancy", full)
    log = _Log(tmp_path, tiny)
    log.job.run([_source(posed)])
    assert log.done == []
    assert len(log.errors) == 1 and "No space left on device" in log.errors[0] and "\n" not in log.errors[0]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_finished_ones_are_kept_and_other_settings_are_not(tmp_path, posed, tiny):
    import dataclasses

    _Log(tmp_path, tiny).job.run([_source(posed)])
    again = _Log(tmp_path, tiny)
    again.job.run([Source("it", posed.class_id, posed.nerf_id, _fail(AssertionError("was opened")))])
    assert again.skipped == [("HASH", posed.nerf_id)] and again.done == []
    other = _Log(tmp_path, dataclasses.replace(tiny, iterations=3))
    other.job.run([_source(posed)])
    assert other.done == [("HASH", posed.nerf_id)]
    anew = _Log(tmp_path, dataclasses.replace(tiny, iterations=3), resume=False)
    anew.job.run([_source(posed)])
    assert anew.done == [("HASH", posed.nerf_id)]


@pytest.mark.same_bits
def test_killed_run_continues_to_the_same_weights(tmp_path, posed, tiny):
    """A kill after a checkpoint: the next run takes it up, and ends where one run would have."""

    class Killed(BaseException):
        pass

    seen = []

    def kill(stage, done, total):
        raise Killed

    killed = _Log(
        tmp_path / "a", tiny, checkpoint_seconds=-1.0, progress=kill
    )  # after every step; progress first at 10
    with pytest.raises(Killed):
        killed.job.run([_source(posed)])
    assert not (tmp_path / "a" / "hash").exists()
    assert len(list((tmp_path / "a" / ".fit").glob("*.pth"))) == 1
    resumed = _Log(tmp_path / "a", tiny, progress=lambda stage, done, total: seen.append(done))
    resumed.job.run([_source(posed)])
    assert seen[0] == 10 and resumed.done
    assert list((tmp_path / "a" / ".fit").iterdir()) == []
    _Log(tmp_path / "b", tiny).job.run([_source(posed)])
    first, second = (load_nerf(tmp_path / run / "hash" / posed.class_id / posed.nerf_id).tensors for run in "ab")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_procedural_run_writes_splits_and_texts(tmp_path, tiny):
    import dataclasses

    settings = dataclasses.replace(tiny, iterations=1, views=4, size=16)
    sources = list(find_sources("procedural:2", settings=ViewSettings(n_views=4, size=16)))
    _Log(tmp_path, settings, batch=2).job.run(sources)
    train = NerfDataset(tmp_path / "hash", "train")
    assert train.object_ids == [(source.class_id, source.nerf_id) for source in sources]
    assert (tmp_path / "val.txt").read_text() == ""
    brief = json.loads((tmp_path / "language" / "train" / "texts" / "conversations_brief.json").read_text())
    assert {entry["object_id"] for entry in brief} == {source.nerf_id for source in sources}


def test_splits_are_balanced_and_keep_their_members():
    splits = [split_of(index) for index in range(1300)]
    assert [splits.count(name) for name in ("train", "val", "test")] == [1040, 130, 130]
    for offset in range(13):
        assert splits[offset::13].count("test") == 10


def test_nano_nerfs_learn_in_seconds_and_stand_with_their_families(tmp_path, posed, other_posed):
    nano = {
        architecture: preset("nano", architecture.family, iterations=60) for architecture in NANO_ARCHITECTURES.values()
    }
    records = []
    job = FitJob(out=tmp_path, settings=nano, batch=2, on_done=lambda *done: records.append(done[2]))
    job.run([_source(posed, "one"), _source(other_posed, "other")])
    assert sorted(record["name"] for record in records) == ["HASH-nano"] * 2 + ["MLP-nano"] * 2 + ["TRI-nano"] * 2
    for record in records:
        held_out = {each.nerf_id: each.held_out[0] for each in (posed, other_posed)}[record["nerf_id"]]
        white = float(-10 * torch.log10((1 - rgba_over(held_out, torch.ones(3))).square().mean()))
        assert record["psnr"] > white + 3
    assert {len(record["psnr_each"]) for record in records} == {1}
    assert (
        len({(record["name"], record["initial_seed"]) for record in records}) == 6
    )  # each from first weights of its own
    pairs = PairedDataset(tmp_path)
    assert [pairs[0][family].load().architecture for family in ("mlp", "triplane", "hash")] == list(nano)
