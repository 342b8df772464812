"""The benchmark of what users bring, on one source of each kind, small."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gmn_encoder.fitting import bench_foreign, distil_object

from ..nerfs.importers.files import blob_checkpoint
from .capture_folders import elsewhere, in_a_room, pictures_of, upper_cameras, write_folder

SMALL = {"quality": "nano", "views": 2, "size": 24, "device": "cpu"}

CUBE = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
SIDES = [(1, 3, 4, 2), (5, 6, 8, 7), (1, 2, 6, 5), (3, 7, 8, 4), (1, 5, 7, 3), (2, 4, 8, 6)]


@pytest.fixture(autouse=True)
def small_looks(monkeypatch):
    monkeypatch.setattr(distil_object, "_VIEWS", 12)


def cube(path):
    corners = [f"v {x} {y} {z}" for x, y, z in CUBE]
    path.write_text("\n".join([*corners, *(f"f {' '.join(map(str, side))}" for side in SIDES), ""]))
    return path


def photographs(folder, *, room=False):
    cameras = upper_cameras(12, 32)
    images = pictures_of(cameras)
    images = in_a_room(images, cameras) if room else images
    return write_folder(folder, elsewhere(cameras, scale=3.0, center=(0.0, 0.0, 0.0)), images)


def test_each_kind_is_measured_against_its_own_views_and_what_is_there_is_kept(tmp_path):
    sources = [blob_checkpoint(tmp_path / "blob.ckpt"), cube(tmp_path / "cube.obj"), photographs(tmp_path / "photos")]
    given = ",".join(map(str, sources))
    run = {**SMALL, "iterations": 20, "work": tmp_path / "work", "sheets": tmp_path / "sheets"}
    *first, last = bench_foreign.bench(given, **run)
    rows = last.figures["sources"]
    assert [len(each.figures["sources"]) for each in first] == [1, 2]  # a run that is stopped keeps what it has
    assert [row["kind"].split(" ")[0] for row in rows] == ["nerf-pytorch", "mesh", "photographs"]
    assert [len(row["other_each"]) for row in rows] == [2, 2, 1]
    assert all(row["other"] == pytest.approx(np.mean(row["other_each"])) for row in rows)
    assert rows[2]["other_each"] == pytest.approx([rows[2]["held_out"]], abs=1e-3)  # the same photograph
    assert all(row["cpu_seconds"]["opening"] > 0 and row["cpu_seconds"]["fit"] > 0 for row in rows)
    assert last.text.count("\n") == 2 + len(rows) and "| cube.obj | mesh |" in last.text
    for name, views in {"blob": 2, "cube": 2, "photos": 1}.items():
        with Image.open(tmp_path / "sheets" / f"{name}.png") as sheet:
            above, below = np.split(np.asarray(sheet.convert("RGB"), dtype=float) / 255, 2)
            side = sheet.height // 2
            assert sheet.width == views * side
            psnr = -10 * np.log10(np.square(above - below).reshape(side, views, side, 3).mean(axis=(0, 2, 3)))
            (row,) = (row for row in rows if row["source"].startswith(name))
            assert row["other_each"] == pytest.approx(psnr.tolist(), abs=0.1)  # but for the sheet's 8 bits
    *_, again = bench_foreign.bench(given, **run)
    assert again.figures == last.figures  # seconds too: nothing was fitted again


def test_a_longer_fit_agrees_better(tmp_path):
    source = str(cube(tmp_path / "cube.obj"))
    short, long = (next(bench_foreign.bench(source, **SMALL, iterations=count)) for count in (1, 60))
    assert long.figures["sources"][0]["other"] > short.figures["sources"][0]["other"] + 3


def test_photographs_of_a_room_do_not_show_the_object_alone(tmp_path):
    folder = photographs(tmp_path / "room", room=True)
    with pytest.raises(ValueError, match="room: has 1 photographs to measure on, without opacity"):
        list(bench_foreign.bench(str(folder), **SMALL, iterations=1))


def test_a_folder_of_several_is_none_of_them(tmp_path):
    for name in ("a.obj", "b.obj"):
        cube(tmp_path / name)
    with pytest.raises(ValueError, match="holds 2 sources; expected one, several with commas"):
        next(bench_foreign.bench(str(tmp_path), **SMALL))
