"""Lenses against formulas written out by hand, and each direction against the other."""

import math

import pytest
import torch

from gmn_encoder.rendering.cameras import Cameras, sphere
from gmn_encoder.rendering.lenses import Lens

LENSES = {
    "barrel": ([-0.28, 0.07, 0.0, 0.0, 0.0, 0.0], False),
    "pincushion": ([0.2, 0.05, 0.01, 0.0, 0.0, 0.0], False),
    "all of OPENCV": ([-0.12, 0.03, -0.004, 0.0, 0.0015, -0.002], False),
    "tangential": ([0.0, 0.0, 0.0, 0.0, 0.01, -0.02], False),
    "fisheye": ([0.02, -0.01, 0.003, -0.0005, 0.0, 0.0], True),
    "equidistant": ([0.0] * 6, True),
}


def lens_of(name, views=1):
    coefficients, fisheye = LENSES[name]
    return Lens(torch.tensor([coefficients] * views, dtype=torch.float64), torch.tensor([fisheye] * views))


def test_opencv_by_hand():
    k1, k2, k3, _, p1, p2 = LENSES["all of OPENCV"][0]
    x, y = 0.3, -0.4
    r2 = 0.25
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    expected = [
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    ]
    point, shown = lens_of("all of OPENCV").image_points(
        torch.zeros(1, dtype=torch.int64), torch.tensor([[2 * x, 2 * y, 2.0]], dtype=torch.float64)
    )
    assert shown.all()
    torch.testing.assert_close(point[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


def test_fisheye_by_hand_beyond_a_right_angle():
    k1, k2, k3, k4 = LENSES["fisheye"][0][:4]
    angle = 1.8  # radians from the axis: behind the camera's plane
    shown_at = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
    seen = torch.tensor([[0.0, math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    lens = lens_of("fisheye")
    point, shown = lens.image_points(torch.zeros(1, dtype=torch.int64), seen)
    assert shown.item() == (angle <= float(lens.widest))
    if shown.item():
        torch.testing.assert_close(point[0], torch.tensor([0.0, shown_at], dtype=torch.float64))


@pytest.mark.parametrize("name", LENSES)
def test_directions_are_the_inverse_to_the_precision_of_float64(name):
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(4000, 2, generator=generator, dtype=torch.float64) - 0.5) * 1.2
    views = torch.zeros(len(points), dtype=torch.int64)
    lens = lens_of(name)
    directions, found = lens.directions(views, points)
    assert found.float().mean() > 0.95
    back, shown = lens.image_points(views[found], directions[found])
    assert shown.all()
    assert float((back - points[found]).abs().max()) < 1e-11


def test_what_the_lens_never_shows_is_told():
    # r (1 - 0.5 r^2) rises up to r = sqrt(2/3), where it is 0.544: nothing is shown farther out, and nothing twice.
    lens = Lens(torch.tensor([[-0.5, 0, 0, 0, 0, 0]], dtype=torch.float64), torch.tensor([False]))
    assert float(lens.widest) == pytest.approx(math.sqrt(2 / 3))
    views = torch.zeros(2, dtype=torch.int64)
    _, found = lens.directions(views, torch.tensor([[0.5, 0.0], [0.56, 0.0]]))
    assert found.tolist() == [True, False]
    _, shown = lens.image_points(views, torch.tensor([[0.8, 0.0, 1.0], [1.2, 0.0, 1.0]]))
    assert shown.tolist() == [True, False]


@pytest.mark.parametrize("name", LENSES)
def test_cameras_project_what_their_rays_show(name):
    plain = sphere(3, size=64)
    cameras = Cameras(plain.camera_to_world, plain.focal, plain.principal_point, 64, 64, (), lens_of(name, 3))
    usable = cameras.shown(1).flatten()
    rays = cameras.image_rays(1)
    pixels, depth, shown = cameras.project(1, rays.origins + 1.3 * rays.directions)
    expected = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(64), indexing="xy"), dim=-1) + 0.5
    error = (pixels - expected.reshape(-1, 2)).abs().amax(dim=1)[usable & shown]
    assert len(error) > 3500 and float(error.max()) < 2e-3  # pixels, after float32 world coordinates
    assert bool((depth[shown] > 0).all())


def test_a_lens_that_distorts_nothing_is_a_pinhole():
    plain = sphere(2, size=16)
    cameras = Cameras(plain.camera_to_world, plain.focal, plain.principal_point, 16, 16, (), Lens.pinhole(2))
    for view in range(2):
        torch.testing.assert_close(cameras.image_rays(view).directions, plain.image_rays(view).directions)
        points = torch.tensor([[0.1, 0.2, 0.3], [-0.2, 0.0, 0.1]])
        for ours, theirs in zip(cameras.project(view, points), plain.project(view, points), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_lenses_follow_their_cameras():
    lens = Lens.cat([lens_of("barrel"), lens_of("fisheye")])
    plain = sphere(2, size=16)
    cameras = Cameras(plain.camera_to_world, plain.focal, plain.principal_point, 16, 16, ("a", "b"), lens)
    assert cameras[[1]].lens.fisheye.tolist() == [True]
    both = Cameras.cat([cameras, plain])
    assert both.lens.fisheye.tolist() == [False, True, False, False] and len(both) == 4
    assert cameras.to(torch.float64).resized(32, 32).lens.fisheye.tolist() == [False, True]


def test_bad_lenses_are_refused():
    with pytest.raises(ValueError, match="expected"):
        Lens(torch.zeros(2, 4), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="finite"):
        Lens(torch.full((1, 6), torch.nan), torch.zeros(1, dtype=torch.bool))
    with pytest.raises(ValueError, match="2 lenses for 1 cameras"):
        plain = sphere(1, size=8)
        Cameras(plain.camera_to_world, plain.focal, plain.principal_point, 8, 8, (), Lens.pinhole(2))
