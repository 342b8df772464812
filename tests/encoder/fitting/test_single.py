"""What a user brings is fitted as what ships was: else the model has never seen NeRFs like it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder import load_nerf
from gmn_encoder.fitting import presets, quality, single
from gmn_encoder.fitting.single import fit_architecture, fit_object
from gmn_encoder.rendering.camera_files import write_cameras
from gmn_encoder.rendering.cameras import sphere
from llana_gmn.default.objects import default_nerfs_path

CUBE = """ply
format ascii 1.0
element vertex 8
property float x
property float y
property float z
element face 6
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
1 1 0
0 1 0
0 0 1
1 0 1
1 1 1
0 1 1
4 0 3 2 1
4 4 5 6 7
4 0 1 5 4
4 1 2 6 5
4 2 3 7 6
4 3 0 4 7
"""


@pytest.fixture
def quick(monkeypatch):
    settings = {**presets._BY_PRESET["nano"], "iterations": 10, "views": 6, "size": 32}
    monkeypatch.setitem(presets._BY_PRESET, "nano", settings)
    monkeypatch.setattr(single, "least_psnr", lambda quality: None)


def _shipped(family):
    return json.loads(next((default_nerfs_path() / family).glob("*/*/fit.json")).read_text())


def test_objects_are_fitted_as_the_nerfs_that_ship(tmp_path, monkeypatch):
    settings = {family: presets.preset("nano", family).to_dict() for family in ("mlp", "triplane", "hash")}
    small = {**presets._BY_PRESET["nano"], "iterations": 10, "views": 6, "size": 32}
    monkeypatch.setitem(presets._BY_PRESET, "nano", small)
    monkeypatch.setitem(quality.LEAST_PSNR, "nano", 0.0)  # ten steps show little
    (tmp_path / "thing.ply").write_text(CUBE)
    made = fit_object(tmp_path / "thing.ply", tmp_path / "out")
    assert list(made) == list(settings)
    for family, directory in made.items():
        assert directory == tmp_path / "out" / family / "own" / "thing"
        record, shipped = json.loads((directory / "fit.json").read_text()), _shipped(family)
        assert settings[family] == shipped["settings"]
        for key in ("name", "seed"):
            assert record[key] == shipped[key]
        assert record["initial_seed"] != shipped["initial_seed"]  # first weights of its own


def image_folder(folder, *, size, green=10):
    """Six views of a square, posed."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    write_cameras(sphere(6, size=size), folder / "transforms.json")
    picture = np.zeros((size, size, 4), np.uint8)
    edge = slice(size // 2 - 4, size // 2 + 4)
    picture[edge, edge] = (200, green, 10, 255)
    for view in range(6):
        Image.fromarray(picture).save(folder / "train" / f"{view:02d}.png")
    return folder


def test_image_folders_come_the_same_way_and_again_replaces(tmp_path, quick):
    folder = image_folder(tmp_path / "cup", size=16)
    steps = []
    made = fit_object(folder, tmp_path / "out", families=["hash"], progress=lambda *step: steps.append(step))
    assert made["hash"].name == "cup" and steps[-1][1:3] == (10, 10)
    before = load_nerf(made["hash"]).tensors
    image_folder(folder, size=16, green=250)
    after = load_nerf(fit_object(folder, tmp_path / "out", families=["hash"])["hash"]).tensors
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_what_cannot_be_fitted(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    lines = [line for line in CUBE.replace("face 6", "face 0").splitlines() if not line.startswith("4 ")]
    (tmp_path / "faceless.ply").write_text("\n".join(lines) + "\n")
    cases = {
        "absent.glb": r"absent\.glb: no such file",
        "a.txt": r"a\.txt: unknown extension '\.txt' for a mesh",
        "empty": r"empty: is a directory without a camera file; expected one of .*transforms\.json",
        "faceless.ply": r"faceless\.ply: ",
    }
    for name, message in cases.items():
        with pytest.raises((ValueError, OSError), match=message):
            fit_object(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="unknown family 'cube'; expected one of mlp, triplane, hash"):
        fit_object(tmp_path / "a.ply", tmp_path, families=["cube"])
    with pytest.raises(ValueError, match="unknown quality"):
        fit_object(tmp_path / "a.ply", tmp_path, quality="best")
    assert fit_architecture("triplane", "quick").name == "TRI"
