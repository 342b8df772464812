"""Objects turned and fitted anew."""

import json
import math

import numpy as np
import pytest

from gmn_encoder.files import read_json, write_json
from gmn_encoder.fitting.presets import FitSettings
from gmn_encoder.fitting.turned_set import _mesh, fit_turned, turned_mesh
from gmn_encoder.nerfs.architectures import parse_architecture
from gmn_encoder.nerfs.files import find_nerfs
from gmn_encoder.objects import generate


def test_a_turned_mesh():
    mesh = generate("chair", 0).mesh
    half = math.sqrt(0.5)
    turned = turned_mesh(mesh, (half, 0.0, 0.0, half))  # a quarter turn about z: x becomes y
    assert np.allclose(turned.vertices[:, 1], mesh.vertices[:, 0], atol=1e-6)
    assert np.allclose(turned.normals[..., 0], -mesh.normals[..., 1], atol=1e-6)
    assert turned.vertices.dtype == mesh.vertices.dtype


def test_the_set_has_the_same_objects_and_says_how_they_are_turned(tmp_path):
    few = FitSettings(iterations=2, samples=64, views=3, size=12, grid_points=1, measured_views=1, warmup=1)
    each = ("03001627", "chair-000000000")
    about = {"architecture": parse_architecture("HASH-nano").to_dict(), "settings": few.to_dict()}
    write_json({**about, "source": "procedural chair-000000000"}, tmp_path.joinpath("data", "hash", *each, "fit.json"))
    for _ in range(2):  # the second time everything is there
        fit_turned(tmp_path / "data", tmp_path / "out", [each], families=["hash"])
    turns = read_json(tmp_path / "out" / "turns.json")
    assert np.linalg.norm(turns["/".join(each)]) == pytest.approx(1)
    assert [path.parts[-2:] for path in find_nerfs(tmp_path / "out")] == [each]
    with pytest.raises(FileNotFoundError):
        fit_turned(tmp_path / "data", tmp_path / "out", [("c", "other")], families=["hash"])


def test_a_mesh_is_turned_from_how_the_data_set_had_it(tmp_path):
    """A list of meshes says that one stands along z, which a glTF file does not."""
    trimesh = pytest.importorskip("trimesh")
    (tmp_path / "meshes" / "kind").mkdir(parents=True)
    trimesh.creation.box(extents=(1.0, 2.0, 3.0)).export(tmp_path / "meshes" / "kind" / "box.glb")
    lying = _mesh("meshes/kind/box.glb", tmp_path)
    entries = [{"file": "kind/box.glb", "up_axis": "z"}]
    (tmp_path / "meshes" / "manifest.json").write_text(json.dumps(entries), encoding="utf-8")
    standing = _mesh("meshes/kind/box.glb", tmp_path)
    sizes = [np.ptp(mesh.vertices.reshape(-1, 3), axis=0) for mesh in (lying, standing)]
    assert sizes[0].argmax() == 1 and sizes[1].argmax() == 2
