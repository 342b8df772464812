"""Files that other programs wrote: decoded, and the same object in two formats agrees. Skipped where the samples are not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmn_encoder.nerfs.importers import import_field
from gmn_encoder.nerfs.importers.splats import Splats, rasterise, read_splats
from gmn_encoder.rendering.cameras import orbit_pose
from gmn_encoder.rendering.psnr import psnr

SHARED = Path(os.environ.get("LLANA_GMN_SHARED", Path(__file__).parents[6] / "shared")) / "foreign" / "splats"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the samples of other programs are not beside the checkout")


def in_order_of_means(splats: Splats) -> Splats:
    """Sorted by the position to 1e-4, which formats that keep float32 share."""
    keys = (splats.means.double() * 1e4).round().long()
    order = torch.arange(len(splats))
    for axis in (2, 1, 0):
        order = order[keys[order, axis].argsort(stable=True)]
    return splats.select(order)


def shape_error(a: Splats, b: Splats) -> torch.Tensor:
    difference = (a.covariances - b.covariances).flatten(1).norm(dim=1)
    return difference / a.covariances.flatten(1).norm(dim=1)


def test_the_guitar_in_two_formats():
    packed, plain = (
        in_order_of_means(read_splats(SHARED / name)) for name in ("guitar.compressed.ply", "guitar.splat")
    )
    assert len(packed) == len(plain) == 90854
    same = (packed.means - plain.means).abs().amax(dim=1) < 1e-5  # rounding may swap a few neighbours
    assert float(same.float().mean()) > 0.99
    assert float((packed.opacities - plain.opacities)[same].abs().max()) < 1e-6  # bytes in both
    assert float((packed.colours - plain.colours)[same].abs().max()) < 1.01 / 255
    assert float(shape_error(packed, plain)[same].max()) < 0.05  # quaternions in bytes


def test_the_robot_in_two_formats():
    plain, packed = (read_splats(SHARED / name) for name in ("playbot_4_0_inria.ply", "playbot_4_0.sog"))
    assert len(plain) == len(packed) == 8406 and plain.degree == packed.degree == 2
    for name, value in plain.tensors.items():
        if name != "rotations":  # -q turns as q does
            torch.testing.assert_close(packed.tensors[name], value, atol=1e-5, rtol=1e-5, msg=name)
    assert float(shape_error(plain, packed).max()) < 1e-5


@pytest.mark.parametrize(
    "name", ["minimal-v2.spz", "minimal-v3.spz", "minimal-v4.spz", "minimal.splat", "minimal.ksplat"]
)
def test_four_splats_in_a_square(name):
    """Deviations of 0.1, opacity 0.9, at the corners of a unit square that has the origin and -1 as corners."""
    if name == "minimal-v4.spz":
        pytest.importorskip("zstandard")
    splats = read_splats(SHARED / name)
    assert len(splats) == 4
    torch.testing.assert_close(splats.scales, torch.full((4, 3), 0.1), atol=0.004, rtol=0)  # steps of e^(1/16) in .spz
    torch.testing.assert_close(splats.opacities, torch.full((4,), 0.902), atol=1e-3, rtol=0)
    # The first one to the left, the last one at the origin, y nowhere; .spz turns y and z of the others' axes.
    corners = splats.means.abs()
    expected = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(corners, expected, atol=1e-3, rtol=0)
    # A quarter and three quarters of the way from dark to bright, in red along x and green along z; versions scale colours apart.
    bright = splats.colours[:, :2] > 0.5
    assert bright.tolist() == [[False, False], [True, False], [False, True], [True, True]]


def test_versions_of_one_spz_agree():
    pytest.importorskip("zstandard")
    third, fourth = (read_splats(SHARED / f"minimal-v{version}.spz") for version in (3, 4))
    for name, value in third.tensors.items():
        assert torch.equal(fourth.tensors[name], value), name


@pytest.mark.parametrize(("name", "count"), [("guitar.splat", 90854), ("playbot_4_0.sog", 8406)])
def test_fields_find_what_is_opaque_and_where_up_is(name, count):
    field = import_field(SHARED / name)
    assert field.sizes["splats"] == count and field.bounded and field.up == (0.0, -1.0, 0.0)
    longest = max(high - low for low, high in zip(*field.box, strict=True))
    assert longest == pytest.approx(4.8 if "guitar" in name else 2.3, rel=0.05)


def test_the_grid_shows_the_robot_as_the_splats_do():
    """A view marched through the field, against the rasterised one: two renderers that share nothing but the splats."""
    field = import_field(SHARED / "playbot_4_0_inria.ply")
    field = replace(
        field, tensors={**field.tensors, "harmonics": field.tensors["harmonics"][:, :1]}
    )  # no view dependence
    pose = orbit_pose(60.0, -20.0, 2.2)
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y down
    pose[:3] = turn @ pose[:3]
    pose[:3, 3] += torch.tensor([0.0, -0.5, 0.0])
    size, focal = 64, 70.0
    splatted = rasterise(field.splats, pose, torch.full((2,), focal), torch.full((2,), size / 2), size, size)
    pixels = torch.arange(size) + 0.5 - size / 2
    rows, columns = torch.meshgrid(pixels, pixels, indexing="ij")
    looks = torch.stack([columns, -rows, torch.full_like(rows, -focal)], dim=-1).view(-1, 3) @ pose[:3, :3].T
    looks = looks / looks.norm(dim=1, keepdim=True)
    step = field.step
    light, colour = torch.ones(size * size), torch.zeros(size * size, 3)
    for distance in torch.arange(0.5, 4.0, step).tolist():
        rgb, density = field.query(pose[:3, 3] + distance * looks)
        opacity = 1 - torch.exp(-density[:, 0] * step)
        colour += (light * opacity)[:, None] * rgb
        light *= 1 - opacity
    marched = (colour + light[:, None]).view(size, size, 3)
    assert float(psnr(marched, (splatted[..., :3] + 1 - splatted[..., 3:]).clamp(0, 1))) > 22
