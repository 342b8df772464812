"""Images of splats whose values can be written down."""

from __future__ import annotations

import math

import pytest
import torch

from gmn_encoder.nerfs.importers.splats import Splats, rasterise, rasteriser
from gmn_encoder.nerfs.importers.splats.record import CONSTANT_HARMONIC
from gmn_encoder.rendering.cameras import orbit_pose

FOCAL, SIZE, DISTANCE = 50.0, 41, 4.0
MIDDLE = (SIZE - 1) // 2


def splats(means, scales, opacities, colours, rotations=None, harmonics=None) -> Splats:
    means = torch.tensor(means, dtype=torch.float32)
    constant = (torch.tensor(colours, dtype=torch.float32) - 0.5) / CONSTANT_HARMONIC
    turns = torch.tensor([[1.0, 0, 0, 0]]).repeat(len(means), 1) if rotations is None else torch.tensor(rotations)
    coefficients = constant[:, None] if harmonics is None else torch.cat([constant[:, None], harmonics], dim=1)
    return Splats("test", means, torch.tensor(scales), turns, torch.tensor(opacities), coefficients)


def image(of: Splats, pose=None, size=SIZE, distance=DISTANCE):
    """From +z down, x to the right and y up."""
    if pose is None:
        pose = torch.eye(4)
        pose[2, 3] = distance
    lens = torch.full((2,), FOCAL), torch.full((2,), size / 2)
    return rasterise(of, pose, *lens, size, size)


def test_one_round_splat_is_a_gaussian_of_pixels():
    sigma, opacity = 0.2, 0.8
    seen = image(splats([[0.0, 0, 0]], [[sigma] * 3], [opacity], [[1.0, 0.5, 0.25]]))
    variance = (FOCAL * sigma / DISTANCE) ** 2 + 0.3
    away = (torch.arange(SIZE) - MIDDLE).float()
    expected = opacity * torch.exp(-0.5 * (away[:, None] ** 2 + away**2) / variance)
    expected = torch.where(expected >= 1 / 255, expected, 0.0)
    torch.testing.assert_close(seen[..., 3], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        seen[..., :3], expected[..., None] * torch.tensor([1.0, 0.5, 0.25]), atol=1e-5, rtol=1e-4
    )


def test_a_long_splat_lies_as_its_quaternion_says():
    """Long along x, turned by 30 degrees about z: the image's covariance is that of the turned axes, rows going down."""
    angle, scales = math.radians(30), (0.3, 0.05, 0.1)
    turn = [[math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]]
    alpha = image(splats([[0.0, 0, 0]], [list(scales)], [0.9], [[1.0] * 3], turn))[..., 3].double()
    away = (torch.arange(SIZE) - MIDDLE).double()
    weights = alpha / alpha.sum()
    xx, yy = (weights * away**2).sum(), (weights * away[:, None] ** 2).sum()
    xy = (weights * away * -away[:, None]).sum()  # y up
    pixels = (FOCAL / DISTANCE) ** 2
    long, short = pixels * scales[0] ** 2, pixels * scales[1] ** 2
    cos, sin = math.cos(angle), math.sin(angle)
    # The cut at 1/255 takes 3 % of the variance.
    assert float(xx) == pytest.approx(long * cos**2 + short * sin**2 + 0.3, rel=0.05)
    assert float(yy) == pytest.approx(long * sin**2 + short * cos**2 + 0.3, rel=0.05)
    assert float(xy) == pytest.approx((long - short) * cos * sin, rel=0.05)


def test_off_the_axis_places_and_sizes_follow_the_projection():
    """At (0.8, -0.4, 1) and 3 away: 13.33 pixels right and 6.67 down; along depth the splat smears outwards."""
    seen = image(splats([[0.8, -0.4, 1.0]], [[0.1] * 3], [0.9], [[1.0] * 3]))[..., 3].double()
    weights, pixels = seen / seen.sum(), torch.arange(SIZE).double() + 0.5
    x, y = (weights * pixels).sum(), (weights * pixels[:, None]).sum()
    assert float(x) == pytest.approx(SIZE / 2 + FOCAL * 0.8 / 3, abs=0.02)
    assert float(y) == pytest.approx(SIZE / 2 + FOCAL * 0.4 / 3, abs=0.02)
    variance = (weights * (pixels - x) ** 2).sum()
    own, outwards = (FOCAL / 3 * 0.1) ** 2, (FOCAL * 0.8 / 9 * 0.1) ** 2
    assert float(variance) == pytest.approx(own + outwards + 0.3, rel=0.06)


def test_the_nearer_splat_covers_the_other_whatever_the_order_in_the_file():
    red, green = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    for order in ([0, 1], [1, 0]):
        both = splats([[0.0, 0, 0.5], [0, 0, -0.5]], [[0.2] * 3] * 2, [0.6, 0.9], [red, green])
        middle = image(both.select(torch.tensor(order)))[MIDDLE, MIDDLE]
        torch.testing.assert_close(middle, torch.tensor([0.6, 0.4 * 0.9, 0.0, 0.6 + 0.4 * 0.9]), atol=1e-5, rtol=0)


def test_opacity_is_cut_at_99_percent_and_nothing_shows_behind_the_camera():
    strong = splats([[0.0, 0, 0], [0, 0, 5]], [[0.2] * 3] * 2, [0.999, 0.999], [[1.0] * 3] * 2)
    assert float(image(strong)[MIDDLE, MIDDLE, 3]) == pytest.approx(0.99)
    assert not bool(image(strong.select(torch.tensor([1]))).any())


def test_nothing_in_view_is_an_empty_image():
    assert not bool(image(splats([[100.0, 0, 0]], [[0.1] * 3], [0.9], [[1.0] * 3])).any())


def test_colours_depend_on_the_view_as_the_harmonics_of_degree_1_say():
    """0.5 + c0 - 0.4886 y - ...: red is bright towards -y, green towards +z, blue towards -x, of the direction of view."""
    harmonics = torch.eye(3)[None]  # y, z, x: one channel each
    one = splats([[0.0, 0, 0]], [[0.2] * 3], [0.9], [[0.5] * 3], harmonics=harmonics)
    bright = 0.5 + 0.4886025
    for theta, phi, channel, value in (
        (0.0, 0.0, 0, bright),  # from +y, looking along -y
        (180.0, 0.0, 0, 0.5 - 0.4886025),
        (90.0, 0.0, 2, bright),  # from +x, looking along -x
        (90.0, 90.0, 1, bright),  # from below, looking up
        (90.0, -90.0, 1, 0.5 - 0.4886025),
    ):
        middle = image(one, orbit_pose(theta, phi, DISTANCE))[MIDDLE, MIDDLE]
        assert float(middle[channel] / middle[3]) == pytest.approx(value, abs=1e-4), (theta, phi)


def test_groups_that_fit_into_memory_give_the_same_image(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(200, 3, generator=generator) - 0.5
    many = Splats(
        "test",
        means,
        torch.rand(200, 3, generator=generator) * 0.1 + 0.01,
        torch.nn.functional.normalize(torch.randn(200, 4, generator=generator), dim=1),
        torch.rand(200, generator=generator) * 0.5,
        torch.randn(200, 4, 3, generator=generator) * 0.3,
    )
    whole = image(many)
    monkeypatch.setattr(rasteriser, "_PAIRS", 500)
    torch.testing.assert_close(image(many), whole, atol=1e-5, rtol=0)
