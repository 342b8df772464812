"""Gaussian splats as sources of fits: the object alone, upright, in the box, as the splats show it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gmn_encoder.fitting.distil import read_foreign
from gmn_encoder.fitting.placement import PlacementRequest
from gmn_encoder.fitting.single import fit_object
from gmn_encoder.objects import ViewSettings
from gmn_encoder.rendering.images import rgba_over
from tests.encoder.nerfs.importers.splats import writers

SHARED = Path(os.environ.get("LLANA_GMN_SHARED", Path(__file__).parents[4] / "shared")) / "foreign" / "splats"
SETTINGS = ViewSettings(n_views=6, size=48)


def two_balls() -> writers.Cloud:
    """A red ball of radius 1 round (5, 0, 0) with a small blue one on top, y down, and a green floater aside."""
    count = 1500
    index = np.arange(count)
    height, angle = 1 - (2 * index + 1) / count, index * math.pi * (3 - math.sqrt(5))
    sphere = np.stack([np.sqrt(1 - height**2) * np.cos(angle), height, np.sqrt(1 - height**2) * np.sin(angle)], axis=1)
    top = np.array([0.0, -1.4, 0.0])  # up is -y
    means = np.concatenate([sphere, 0.5 * sphere + top, [[0.9, -1.9, 0.9]]])
    means[:, 0] += 5
    colours = np.array([[0.9, 0.1, 0.1]] * count + [[0.1, 0.1, 0.9]] * count + [[0.1, 0.9, 0.1]])
    total = len(means)
    return writers.Cloud(
        means,
        np.full((total, 3), 0.05),
        np.tile([1.0, 0, 0, 0], (total, 1)),
        np.full(total, 0.95),
        (colours - 0.5) / writers.C0,
        np.zeros((total, 0, 3)),
    )


@pytest.fixture(scope="module")
def posed(tmp_path_factory):
    file = tmp_path_factory.mktemp("splats") / "balls.ply"
    file.write_bytes(writers.write_ply(two_balls()))
    return read_foreign(file, "own", "balls", settings=SETTINGS)


def test_the_object_is_placed_upright_in_the_middle(posed):
    placement = posed.placement
    assert placement.up == (0.0, -1.0, 0.0)
    # From the lowest point at y = 1 to the highest at -1.9 and 1 aside: the middle at -0.45
    assert placement.center == pytest.approx((5.0, -0.45, 0.0), abs=0.1)
    reach = placement.scale * 1.45
    assert 0.5 < reach < 0.68
    top = placement.to_box(torch.tensor([[5.0, -1.9, 0.0]]))
    assert float(top[0, 2]) == pytest.approx(reach, abs=0.05)
    assert any("y is taken to point down" in note for note in posed.notes)


def test_views_show_both_balls_and_no_floater(posed):
    images = posed.images.float() / 255
    solid = images[..., 3] > 0.9
    assert bool(solid.flatten(1).any(dim=1).all())
    red, green, blue = images[solid][:, :3].unbind(dim=1)
    assert int((red > 0.6).sum()) > 200 and int((blue > 0.6).sum()) > 50
    shown = images[..., 3] > 0.1
    assert not bool((images[shown][:, 1] > 0.5).any())
    assert bool((green < 0.3).all())


@pytest.mark.slow
def test_a_user_may_say_where_and_which_way(tmp_path, posed):
    """The small ball alone, with the red one cut off, and upside down."""
    file = tmp_path / "balls.ply"
    file.write_bytes(writers.write_ply(two_balls()))
    request = PlacementRequest(center=(5.0, -1.5, 0.0), scale=1.4, up=(0.0, 1.0, 0.0))
    settings = ViewSettings(n_views=2, size=32)
    cropped = read_foreign(file, "own", "balls", settings=settings, placement=request)
    assert cropped.placement.scale == 1.4 and cropped.placement.up == (0.0, 1.0, 0.0)
    images = rgba_over(cropped.images, torch.ones(3))
    blue = (images[..., 2] > 0.6) & (images[..., 0] < 0.5)
    red = (images[..., 0] > 0.6) & (images[..., 2] < 0.5)
    assert int(blue.sum()) > 3 * int(red.sum())


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the samples of other programs are not beside the checkout")
def test_the_robot_fits(tmp_path):
    """24 dB was measured in nano quality, whose presets are for previews."""
    place = fit_object(SHARED / "playbot_4_0.sog", tmp_path, families=["hash"], quality="nano")["hash"]
    assert json.loads((place / "fit.json").read_text())["psnr"] > 22
