"""A finished NeRF is kept while its source is what it was fitted to."""

from __future__ import annotations

import json
import logging
import struct

import pytest

from gmn_encoder.digests import Digests
from gmn_encoder.fitting.inputs import are_same_files, files_of, input_files, views_digest
from gmn_encoder.fitting.job import CHECKPOINTS
from gmn_encoder.fitting.sources import Source, path_source
from gmn_encoder.locks import output_lock
from gmn_encoder.objects import ViewSettings
from gmn_encoder.rendering.images import parse_background
from tests.encoder.fitting.test_job import _Log


def source_of(path, posed, **options):
    return Source(str(path), posed.class_id, posed.nerf_id, lambda: posed, path=path, options=options)


def run(out, settings, source):
    log = _Log(out, settings)
    log.job.run([source])
    assert log.errors == []
    return "redone" if log.done else "kept"


@pytest.fixture
def fitted(tmp_path, posed, tiny):
    """The directory of a NeRF that was fitted to what a file is said to hold."""
    (tmp_path / "mesh.ply").write_text("one")
    assert run(tmp_path / "out", tiny, source_of(tmp_path / "mesh.ply", posed)) == "redone"
    return tmp_path / "out" / "hash" / posed.class_id / posed.nerf_id


def test_views_decide_where_files_changed(tmp_path, fitted, posed, other_posed, tiny, caplog):
    mesh, record = tmp_path / "mesh.ply", fitted / "fit.json"
    first = json.loads(record.read_text())["inputs"]
    assert list(first) == ["files", "options", "views"] and first["views"] == views_digest(posed)
    mesh.write_text("two")  # which holds the same object
    assert run(tmp_path / "out", tiny, source_of(mesh, posed)) == "kept"
    second = json.loads(record.read_text())["inputs"]
    assert second["views"] == first["views"] and second["files"] != first["files"]
    opened = Source("mesh", posed.class_id, posed.nerf_id, lambda: pytest.fail("was opened"), path=mesh)
    assert run(tmp_path / "out", tiny, opened) == "kept"
    assert not caplog.messages
    mesh.write_text("three")
    other = source_of(mesh, other_posed)
    changed = Source(other.name, posed.class_id, posed.nerf_id, other.load, path=mesh)
    # `PosedImages` name their own directory; the source's is the one that is looked at.
    with caplog.at_level(logging.WARNING):
        assert run(tmp_path / "out", tiny, changed) == "redone"
    assert (
        f"HASH {posed.class_id}/{posed.nerf_id}: {mesh} changed since it was fitted; it is fitted again"
        in caplog.messages
    )
    assert any("1 of" in message and "had changed and were fitted again" in message for message in caplog.messages)


def test_another_reading_is_another_source(tmp_path, fitted, posed, tiny):
    mesh = tmp_path / "mesh.ply"
    opened = []
    source = Source(
        "it", posed.class_id, posed.nerf_id, lambda: opened.append(1) or posed, path=mesh, options={"up": "z"}
    )
    assert run(tmp_path / "out", tiny, source) == "kept"  # it was looked at, and the views are the same
    assert opened


def test_records_of_before(tmp_path, fitted, posed, other_posed, tiny):
    """They say nothing of their inputs: the views that the fit left do."""
    record = json.loads((fitted / "fit.json").read_text())
    del record["inputs"]
    (fitted / "fit.json").write_text(json.dumps(record))
    mesh = tmp_path / "mesh.ply"
    assert run(tmp_path / "out", tiny, source_of(mesh, posed)) == "kept"
    assert json.loads((fitted / "fit.json").read_text())["inputs"]["views"] == views_digest(posed)
    (fitted / "fit.json").write_text(json.dumps(record))
    other = Source("it", posed.class_id, posed.nerf_id, lambda: other_posed, path=mesh)
    assert run(tmp_path / "out", tiny, other) == "redone"


def test_what_another_process_is_fitting_is_left_to_it(tmp_path, posed, other_posed, tiny):
    lock = tmp_path / CHECKPOINTS / f"hash-{posed.class_id}-{posed.nerf_id}.lock"
    log = _Log(tmp_path, tiny, batch=2)
    sources = [
        Source(name, each.class_id, each.nerf_id, lambda each=each: each)
        for name, each in (("a", posed), ("b", other_posed))
    ]
    with output_lock("it", file=lock):
        log.job.run(sources)
    assert log.done == [("HASH", other_posed.nerf_id)]
    (error,) = log.errors
    assert error.startswith(str(tmp_path / "hash" / posed.class_id / posed.nerf_id) + ": is being written by process ")
    again = _Log(tmp_path, tiny, batch=2)
    again.job.run(sources)
    assert (again.done, again.skipped) == ([("HASH", posed.nerf_id)], [("HASH", other_posed.nerf_id)])


def test_files_that_a_mesh_names(tmp_path):
    (tmp_path / "a.obj").write_text("mtllib red paint.mtl more.mtl\nv 0 0 0\nusemtl x\n")
    (tmp_path / "red paint.mtl").write_text("newmtl x\nmap_Kd -bm 1 skin.png\nKd 1 0 0\n")
    names = {"a.obj", "red paint.mtl more.mtl", "red", "paint.mtl", "more.mtl"}
    assert set(input_files(tmp_path / "a.obj")) == names
    (tmp_path / "a.obj").write_text("mtllib red paint.mtl\n")
    assert set(input_files(tmp_path / "a.obj")) == {
        "a.obj",
        "red paint.mtl",
        "red",
        "paint.mtl",
        "-bm 1 skin.png",
        "skin.png",
    }
    content = {"buffers": [{"uri": "b%20c.bin"}, {"uri": "data:,x"}, {}], "images": [{"uri": "skin.png"}, 3]}
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    assert list(input_files(tmp_path / "a.gltf")) == ["a.gltf", "b c.bin", "skin.png"]
    chunk = json.dumps(content).encode()
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(chunk), len(chunk), 0x4E4F534A)
    (tmp_path / "a.glb").write_bytes(head + chunk)
    assert list(input_files(tmp_path / "a.glb")) == ["a.glb", "b c.bin", "skin.png"]
    (tmp_path / "a.ply").write_text("ply\ncomment TextureFile skin.png\nend_header\ncomment TextureFile no.png\n")
    assert list(input_files(tmp_path / "a.ply")) == ["a.ply", "skin.png"]
    (tmp_path / "broken.gltf").write_text("{" * 100)
    (tmp_path / "short.glb").write_bytes(b"glTF")
    for name in ("broken.gltf", "short.glb", "none.obj"):
        assert list(input_files(tmp_path / name)) == [name]


def test_files_that_come_go_or_change(tmp_path):
    mesh = tmp_path / "a.ply"
    mesh.write_text("ply\ncomment TextureFile skin.png\nend_header\n")
    source = path_source(mesh, settings=ViewSettings(n_views=4))
    then = files_of(source, Digests())
    assert then["files"]["skin.png"] == ""
    assert json.loads(json.dumps(then)) == then
    assert are_same_files(source, then, Digests())
    (tmp_path / "skin.png").write_text("x")
    assert not are_same_files(source, then, Digests())
    then = files_of(source, Digests())
    assert are_same_files(source, then, Digests())
    assert not are_same_files(path_source(mesh, settings=ViewSettings(n_views=5)), then, Digests())

    folder = tmp_path / "photos"
    (folder / "train").mkdir(parents=True)
    for name in ("transforms.json", "train/0.png", "train/1.png"):
        (folder / name).write_text(name)
    source = path_source(folder)
    then = files_of(source, Digests())
    assert sorted(then["files"]) == ["train/0.png", "train/1.png", "transforms.json"]
    assert are_same_files(source, then, Digests())
    assert not are_same_files(path_source(folder, background=parse_background("1,1,1")), then, Digests())
    for change in (
        lambda: (folder / "train/2.png").write_text("new"),
        lambda: (folder / "train/2.png").unlink() or (folder / "train/1.png").write_text("other"),
        lambda: (folder / "train/1.png").unlink(),
    ):
        change()
        assert not are_same_files(source, then, Digests())
