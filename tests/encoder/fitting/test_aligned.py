"""A NeRF turned and fitted anew."""

import math
from pathlib import Path

import pytest
import torch

from gmn_encoder import Nerf, PoseAnswer, TurnedField, load_nerf
from gmn_encoder.fitting.aligned import alignment_picture, cameras_before, default_quality, fit_moved, views_of_moved
from gmn_encoder.fitting.presets import FitSettings
from gmn_encoder.objects import ViewSettings
from gmn_encoder.rendering.cameras import turntable
from gmn_encoder.rendering.render import render_views

CHAIRS = Path(__file__).parents[3] / "llana_gmn/default/nerfs/hash/03001627"
HALF = math.sqrt(0.5)
MOTION = PoseAnswer((HALF, 0.0, HALF, 0.0), 0.0, 0.8, (0.05, 0.0, -0.1))


@pytest.fixture
def chair():
    return load_nerf(sorted(CHAIRS.iterdir())[0])


def test_cameras_see_before_what_others_see_of_the_moved(chair):
    moved = TurnedField(chair, MOTION.matrix.float(), MOTION.scale, torch.tensor(MOTION.shift))
    cameras = turntable(2, size=20)
    before = cameras_before(cameras, MOTION)
    seen = render_views(chair, before, step=0.01)
    expected = render_views(lambda xyz, _: moved.query(xyz), cameras, step=0.008)
    assert torch.allclose(seen.colour, expected.colour, atol=0.02)
    assert torch.allclose(seen.opacity, expected.opacity, atol=0.02)
    assert float(seen.opacity.max()) > 0.9


def test_views_of_the_moved(chair):
    posed = views_of_moved(chair, MOTION, ViewSettings(n_views=3, size=16))
    assert posed.images.shape == (3, 16, 16, 4) and len(posed.held_out) == 4
    assert (posed.class_id, posed.nerf_id) == (chair.source.parts[-3], chair.source.parts[-2])


def test_a_nerf_in_the_released_layout_and_a_picture(chair, tmp_path, monkeypatch):
    few = FitSettings(iterations=3, samples=64, views=3, size=12, grid_points=1, measured_views=1, warmup=1)
    monkeypatch.setattr("gmn_encoder.fitting.aligned.preset", lambda *_: few)
    monkeypatch.setattr("gmn_encoder.fitting.aligned.least_psnr", lambda _: None)
    directory = fit_moved(chair, MOTION, tmp_path)
    assert directory.relative_to(tmp_path).parts == chair.source.parent.parts[-3:]
    fitted = load_nerf(directory)
    assert fitted.architecture == chair.architecture
    assert alignment_picture(chair, fitted, chair, size=8).size == (32, 24)


def test_presets():
    assert default_quality(Nerf.random("HASH-nano")) == "nano" and default_quality(Nerf.random("MLP")) == "quick"


@pytest.mark.slow
def test_the_fit_stands_where_the_motion_says(chair, tmp_path):
    from gmn_encoder import estimate_pose

    turn = PoseAnswer(MOTION.quaternion, 0.0)
    fitted = load_nerf(fit_moved(chair, turn, tmp_path))
    found = estimate_pose(chair, fitted)
    assert min(each.degrees_from(turn) for each in (found, *found.near_equal)) < 6
