"""Views that took a while are kept until the fits to them are there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from gmn_encoder.digests import Digests
from gmn_encoder.fitting import distil
from gmn_encoder.fitting.inputs import are_same_files, files_of
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.kept_views import read_views, write_views
from gmn_encoder.fitting.placement import Placement
from gmn_encoder.fitting.sources import path_source
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES
from gmn_encoder.rendering.occupancy import OccupancyGrid

from ..nerfs.importers.files import blob_checkpoint
from .conftest import TINY

HASH, MLP = NANO_ARCHITECTURES["HASH-nano"], NANO_ARCHITECTURES["MLP-nano"]


@pytest.fixture
def placed(posed):
    placement = Placement(center=(0.1, 0.2, -3.0), scale=0.25, up=(0.0, 1.0, 0.0), found_by="looking")
    region = OccupancyGrid(torch.rand(96, 96, 96) < 0.9)
    return replace(
        posed, class_id="own", nerf_id="blob", procedural=None, placement=placement, region=region, notes=("a", "b")
    )


def test_they_come_back_as_they_were(tmp_path, placed):
    write_views(placed, tmp_path / "v.pth")
    found = read_views(tmp_path / "v.pth")
    assert torch.equal(found.images, placed.images) and torch.equal(found.held_out, placed.held_out)
    assert torch.equal(found.cameras.camera_to_world, placed.cameras.camera_to_world)
    assert found.cameras.image_names == placed.cameras.image_names and found.notes == placed.notes
    assert found.placement == placed.placement and torch.equal(found.region.binary, placed.region.binary)
    (tmp_path / "v.pth").write_bytes(b"cut")
    assert read_views(tmp_path / "v.pth") is None and read_views(tmp_path / "none.pth") is None


def test_a_killed_fit_looks_for_the_object_once(tmp_path, placed, monkeypatch):
    file, looked = blob_checkpoint(tmp_path / "blob.ckpt"), []
    monkeypatch.setattr(distil, "read_foreign", lambda *_, **__: looked.append(1) or placed)

    class Killed(BaseException):
        pass

    def kill(stage, done, total):
        raise Killed

    source = path_source(file, class_id="own")
    job = FitJob(out=tmp_path / "out", settings={HASH: TINY, MLP: TINY}, progress=kill)
    with pytest.raises(Killed):
        job.run([source])
    kept = list((tmp_path / "out" / ".fit").glob("views-*.pth"))
    assert len(kept) == 1 and len(looked) == 1
    FitJob(out=tmp_path / "out", settings={HASH: TINY, MLP: TINY}).run([source])
    assert len(looked) == 1 and not kept[0].exists()
    record = json.loads((tmp_path / "out" / "hash" / "own" / "blob" / "fit.json").read_text())
    assert record["placement"]["center"] == [0.1, 0.2, -3.0]
    FitJob(out=tmp_path / "out", settings={HASH: TINY, MLP: TINY}).run([source])
    assert len(looked) == 1  # finished: nothing is opened
    anew = FitJob(out=tmp_path / "out", settings={HASH: TINY}, resume=False)
    anew.run([source])
    assert len(looked) == 2


def test_settings_that_are_put_beside_a_checkpoint_are_a_change(tmp_path):
    (tmp_path / "run").mkdir()
    file = blob_checkpoint(tmp_path / "run" / "a.ckpt")
    source = path_source(file)
    then = files_of(source, Digests())
    assert set(then["files"]) == {"a.ckpt"} and are_same_files(source, then, Digests())
    (tmp_path / "config.yml").write_text("method_name: x\n")
    assert not are_same_files(source, then, Digests())
    now = files_of(source, Digests())
    assert set(now["files"]) == {"a.ckpt", "../config.yml"} and are_same_files(source, now, Digests())
    (tmp_path / "config.yml").write_text("method_name: y\n")
    assert not are_same_files(source, now, Digests())
