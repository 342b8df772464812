"""Fits to captures as other people's cameras take them end where the fit to clean ones does."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from gmn_encoder.fitting.captures import read_capture
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.photometric import PhotometricFit
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.sources import find_sources
from gmn_encoder.nerfs.architectures import parse_architecture

from .capture_folders import elsewhere, in_a_room, pictures_of, upper_cameras, write_folder

pytest.importorskip("embreex")

LENS = [-0.12, 0.04, -0.005, 0.0, 0.002, -0.001]
FISHEYE = [0.02, -0.01, 0.003, -0.0005, 0.0, 0.0]


def like_lego(folder, cameras, images):
    """RGBA, z up, of another size and off the middle."""
    return write_folder(folder, elsewhere(cameras, scale=3.0, center=(0.4, -0.3, 0.2)), images)


def like_fox(folder, count, size):
    """JPEG, y up, a distorted lens off its middle, every fourth image missing."""
    cameras = upper_cameras(count, size, coefficients=LENS, shift=(0.03, -0.02))
    moved = elsewhere(cameras, scale=3.7, center=(5.0, -2.0, 11.0), y_up=True)
    write_folder(folder, moved, pictures_of(cameras), background=(255, 255, 255), suffix=".jpg")
    for number in range(0, count, 4):
        (folder / "images" / f"{number:04d}.jpg").unlink()
    return folder


def fitted(folders, out, architecture, settings, **options):
    """Records of fits, by the folder's name."""
    records, errors = {}, []

    def done(source, architecture, record):
        records[source.nerf_id] = record

    job = FitJob(out=out, settings={architecture: settings}, on_done=done, on_error=errors.append, **options)
    job.run([source for folder in folders for source in find_sources(str(folder))])
    return records, errors


def test_nano_fits_of_captures_end_near_that_of_a_clean_one(tmp_path):
    count, size = 24, 64
    cameras = upper_cameras(count, size)
    images = pictures_of(cameras)
    folders = [
        write_folder(tmp_path / "clean", cameras, images),
        like_lego(tmp_path / "lego", cameras, images),
        like_fox(tmp_path / "fox", count, size),
    ]
    architecture = parse_architecture("MLP-nano")
    settings = dataclasses.replace(preset("nano", "mlp"), measured_views=2)
    records, errors = fitted(folders, tmp_path / "out", architecture, settings, least_psnr=14.0)
    assert not errors and set(records) == {"clean", "lego", "fox"}
    assert records["clean"]["psnr"] > 18
    assert min(record["psnr"] for record in records.values()) > records["clean"]["psnr"] - 3
    written = json.loads((tmp_path / "out" / "mlp").glob("*/fox/fit.json").__next__().read_text())
    assert written["placement"]["up"] == [0, 1, 0] and "6 of 24 images are missing: left out" in written["notes"]
    assert "k1" in next((tmp_path / "out").glob("mlp/*/fox/transforms_train.json")).read_text()


@pytest.mark.slow
def test_quick_fits_of_captures_reach_26_where_the_clean_one_has_28(tmp_path):
    count, size = 40, 128
    cameras = upper_cameras(count, size)
    images = pictures_of(cameras)
    fisheye = upper_cameras(count, size, coefficients=FISHEYE, fisheye=True)
    moved = elsewhere(fisheye, scale=0.3, center=(5.0, -2.0, 11.0))
    folders = [
        write_folder(tmp_path / "clean", cameras, images),
        like_lego(tmp_path / "lego", cameras, images),
        like_fox(tmp_path / "fox", count, size),
        write_folder(tmp_path / "fisheye", moved, pictures_of(fisheye)),
        write_folder(
            tmp_path / "room", elsewhere(cameras, scale=2.0, center=(1.0, 2.0, 3.0)), in_a_room(images, cameras)
        ),
    ]
    architecture = parse_architecture("HASH")
    records, errors = fitted(folders, tmp_path / "out", architecture, preset("quick", "hash"), least_psnr=18.0)
    assert not errors and records["clean"]["psnr"] >= 28
    assert min(records[name]["psnr"] for name in ("lego", "fox", "fisheye")) >= 26
    assert records["room"]["psnr"] >= 22  # with the room, which is learnt besides


def test_a_poor_fit_is_an_error_with_a_picture_and_writes_nothing_else(tmp_path, posed, tiny):
    from .test_job import _source

    errors = []
    architecture = parse_architecture("MLP-nano")
    job = FitJob(out=tmp_path, settings={architecture: tiny}, least_psnr=99.0, on_error=errors.append)
    job.run([_source(posed)])
    assert len(errors) == 1 and "under the 99 dB" in str(errors[0]) and "--keep-poor" in str(errors[0])
    assert not list(tmp_path.rglob("fit.json"))
    assert len(list((tmp_path / ".fit").glob("poor-*.png"))) == 1
    errors.clear()
    FitJob(out=tmp_path, settings={architecture: tiny}, on_error=errors.append).run([_source(posed)])
    assert not errors and len(list(tmp_path.rglob("fit.json"))) == 1


def test_surroundings_are_learnt_besides_and_continue_where_they_were(tmp_path, tiny):
    cameras = upper_cameras(8, 24)
    folder = write_folder(tmp_path / "a", cameras, in_a_room(pictures_of(cameras), cameras))
    posed = read_capture(folder, "c", "n")
    architecture = parse_architecture("MLP-nano")

    def make():
        return PhotometricFit(architecture, [posed], tiny, seeds=[3])

    whole = make()
    first = 0.0
    while not whole.done:
        whole.step()
        first = first or float(whole.loss)
    assert float(whole.loss) < first
    part = make()
    while part.iteration < tiny.iterations // 2:
        part.step()
    resumed = make()
    resumed.load_state_dict(part.state_dict())
    while not resumed.done:
        resumed.step()
    for key, tensor in whole.tensors.items():
        torch.testing.assert_close(resumed.tensors[key], tensor)
    rays = posed.held_out_cameras.image_rays(0)
    torch.testing.assert_close(resumed.surroundings[0].image(rays), whole.surroundings[0].image(rays))
