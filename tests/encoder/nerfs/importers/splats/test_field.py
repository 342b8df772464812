"""Splats as a field on a grid, where the object is among them, and point clouds as splats."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gmn_encoder.nerfs.importers import import_field
from gmn_encoder.nerfs.importers.splats import Splats, field, read_splats, splat_field
from gmn_encoder.nerfs.importers.splats.extent import find_extent
from gmn_encoder.nerfs.importers.splats.field import splat_densities

from . import writers
from .writers import random_cloud


def random_splats(count: int = 60, *, sigma=(0.02, 0.1), seed: int = 0) -> Splats:
    generator = torch.Generator().manual_seed(seed)
    low, high = sigma
    return Splats(
        "test",
        torch.rand(count, 3, generator=generator) * 2 - 1,
        torch.rand(count, 3, generator=generator) * (high - low) + low,
        torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1),
        torch.rand(count, generator=generator) * 0.9,
        torch.randn(count, 1, 3, generator=generator),
    )


def direct_sum(splats: Splats, xyz: torch.Tensor, width: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum over all splats, no grid, nothing cut off; deviations of at least half a voxel, as the field says."""
    density, colour = torch.zeros(len(xyz), dtype=torch.float64), torch.zeros(len(xyz), 3, dtype=torch.float64)
    turns = (splats.covariances.double(), splats.scales.double().sort(dim=1))
    for k in range(len(splats)):
        alpha = min(float(splats.opacities[k]), 0.99)
        if alpha < 0.02:
            continue
        _, axes = torch.linalg.eigh(turns[0][k])
        thin, middle, long = turns[1].values[k].tolist()
        wide = [max(each, width / 2) for each in (thin, middle, long)]
        peak = -math.log(1 - alpha) / (math.sqrt(2 * math.pi) * wide[0]) * middle * long / (wide[1] * wide[2])
        away = (xyz.double() - splats.means[k].double()) @ axes / torch.tensor(wide, dtype=torch.float64)
        own = peak * torch.exp(-0.5 * away.square().sum(dim=1))
        density += own
        colour += own[:, None] * splats.colours[k].double()
    return density, colour / density.clamp(min=1e-12)[:, None]


@pytest.mark.parametrize("sigma", [(0.02, 0.1), (0.001, 0.05)])
def test_voxels_hold_the_direct_sum(sigma):
    splats, width = random_splats(sigma=sigma), 2.2 / 48
    grid = splat_densities(splats, (-1.1, -1.1, -1.1), width, (48, 48, 48))
    axis = (torch.arange(48) + 0.5) * width - 1.1
    centres = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)[::7]
    density, colour = direct_sum(splats, centres, width)
    found = grid.view(4, -1)[:, ::7]
    # What splats have beyond 3.5 deviations is left out: exp(-3.5^2 / 2) = 0.2 % of their peaks, which voxels may miss.
    torch.testing.assert_close(found[0].double(), density, atol=5e-3 * float(grid[0].max()), rtol=1e-4)
    dense = density > 0.05 * density.max()
    torch.testing.assert_close((found[1:] / found[0]).T[dense].double(), colour[dense], atol=0.03, rtol=0)


def test_reads_between_voxels_agree_with_the_direct_sum():
    """Of splats of two voxels and more: within 3 % of the peak where a trilinear read is furthest from a Gaussian."""
    splats = random_splats(sigma=(0.05, 0.1))
    made = splat_field(splats, Path("test.ply"), resolution=96)
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    density, colour = direct_sum(made.splats, points, made.step * 2)
    rgb, found = made.query(points)
    assert float((found[:, 0] - density).abs().max()) < 0.03 * float(density.max())
    dense = density > 0.1 * density.max()
    assert float((rgb[dense] - colour[dense]).abs().max()) < 0.05


def test_through_its_thin_axis_a_disk_has_its_opacity():
    """0.7, of a disk two voxels thick, by a sum of the field's densities along z; and none of it outside the box."""
    scales, alpha = (0.4, 0.4, 0.04), 0.7
    # A disk at the origin, and small splats at the corners of a box round it
    means = torch.cat([torch.zeros(1, 3), torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)])
    deviations = torch.cat([torch.tensor([scales]), torch.full((8, 3), 0.01)])
    turns = torch.tensor([[1.0, 0, 0, 0]]).repeat(9, 1)
    both = Splats("test", means, deviations, turns, torch.tensor([alpha] + 8 * [0.9]), torch.zeros(9, 1, 3))
    made = splat_field(both, Path("test.ply"))
    step = 0.002
    line = torch.zeros(500, 3)
    line[:, 2] = (torch.arange(500) + 0.5) * step - 0.5
    _, density = made.query(line)
    assert 1 - math.exp(-float(density.sum()) * step) == pytest.approx(alpha, abs=0.01)
    outside = torch.tensor([[5.0, 0, 0], [0, -5, 0]])
    assert not bool(made.query(outside)[1].any())


def test_large_splats_get_a_coarser_grid_and_very_many_are_refused(monkeypatch):
    """60 splats that reach over all of the box: 60 times the voxels."""
    splats = random_splats(sigma=(0.9, 1.0))
    wide = splat_field(splats, Path("test.ply"))
    assert wide.sizes["grid_resolution"] == 128
    monkeypatch.setattr(field, "_MOST_WORK", 60 * 70**3)
    coarse = splat_field(splats, Path("test.ply"))
    assert coarse.sizes["grid_resolution"] == coarse.resolution == 64 and max(coarse.grid.shape) == 64
    assert any("64 voxels along the longest side" in note for note in coarse.notes)
    monkeypatch.setattr(field, "_MOST_WORK", 60 * 20**3)
    with pytest.raises(ValueError, match="so large that they overlap"):
        splat_field(splats, Path("test.ply"))


def test_floaters_do_not_stretch_the_box():
    means = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 0.5])
    means[:4] = 50.0
    box, bounded, notes = find_extent(means, torch.full((2000,), 0.9), torch.full((2000,), 0.01))
    assert bounded and not notes
    np.testing.assert_allclose(box, [[0, 0, 0], [1, 2, 0.5]], atol=0.13)


def test_faint_splats_do_not_stretch_the_box():
    means = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    opacities = torch.full((2000,), 0.9)
    means[:600] *= 30
    opacities[:600] = 0.05
    box, bounded, _ = find_extent(means, opacities, torch.full((2000,), 0.01))
    assert bounded
    np.testing.assert_allclose(box, [[0, 0, 0], [1, 1, 1]], atol=0.07)


def test_of_a_scene_with_far_surroundings_the_middle_is_taken():
    generator = torch.Generator().manual_seed(0)
    means = torch.cat([torch.rand(3000, 3, generator=generator) - 0.5, torch.randn(1000, 3, generator=generator) * 60])
    box, bounded, notes = find_extent(means, torch.full((4000,), 0.9), torch.full((4000,), 0.01))
    assert not bounded and "central region" in notes[0]
    size = np.array(box[1]) - np.array(box[0])
    assert (size > 1).all() and (size < 5).all()


def test_nothing_opaque_is_no_object():
    with pytest.raises(ValueError, match=r"no splat has an opacity of 0\.1 or more"):
        find_extent(torch.rand(9, 3), torch.full((9,), 0.05), torch.full((9,), 0.1))
    with pytest.raises(ValueError, match="in one place"):
        find_extent(torch.zeros(9, 3), torch.full((9,), 0.5), torch.full((9,), 0.1))


def test_an_imported_field_says_what_it_is(tmp_path):
    cloud = random_cloud(200, 1)
    file = tmp_path / "thing.spz"
    file.write_bytes(writers.write_spz(cloud, 3))
    said = import_field(file).describe()
    assert said["kind"] == "Gaussian splats (.spz, version 3)" and said["up"] == [0.0, 1.0, 0.0]
    assert said["sizes"] == {"splats": 200, "harmonics_degree": 1, "grid_resolution": 128}
    assert any("mean colour over all directions" in note for note in said["notes"])


def points_ply(points: np.ndarray, colours: np.ndarray | None = None, *, kind: str = "uchar") -> bytes:
    names = [f"float {name}" for name in "xyz"]
    table = [("p", "<f4", 3)]
    if colours is not None:
        names += [f"{kind} {name}" for name in ("red", "green", "blue")]
        table.append(("c", "u1" if kind == "uchar" else "<f4", 3))
    rows = np.zeros(len(points), table)
    rows["p"] = points
    if colours is not None:
        rows["c"] = colours
    return writers.ply_header("binary_little_endian", [("vertex", len(points), names)]) + rows.tobytes()


@pytest.mark.parametrize("kind", ["uchar", "float"])
def test_points_become_splats_as_wide_as_their_distances(tmp_path, kind):
    pytest.importorskip("scipy")
    axis = np.arange(10) * 0.5
    points = np.stack(np.meshgrid(axis, axis, [0.0]), axis=-1).reshape(-1, 3)
    colour = (51, 102, 255) if kind == "uchar" else (0.2, 0.4, 1.0)
    file = tmp_path / "points.ply"
    file.write_bytes(points_ply(points, np.tile(colour, (100, 1)), kind=kind))
    splats = read_splats(file)
    np.testing.assert_allclose(splats.colours, np.tile([0.2, 0.4, 1.0], (100, 1)), atol=1e-5)
    inside = (np.abs(points[:, :2] - 2.25) < 2).all(axis=1)
    np.testing.assert_allclose(splats.scales[torch.from_numpy(inside)], 0.6 * 0.5, rtol=1e-5)
    assert bool((splats.scales[:, :1] == splats.scales).all())
    assert "is a guess" in splats.notes[0]


def test_points_without_colour_are_grey_and_lonely_ones_stay_small(tmp_path):
    pytest.importorskip("scipy")
    points = np.random.default_rng(0).uniform(-1, 1, (300, 3))
    points[0] = 100.0
    file = tmp_path / "points.ply"
    file.write_bytes(points_ply(points))
    splats = read_splats(file)
    assert any("grey" in note for note in splats.notes)
    assert float(splats.scales[0, 0]) < 4 * float(splats.scales[1:].median())


def test_points_in_one_place_are_no_object(tmp_path):
    pytest.importorskip("scipy")
    file = tmp_path / "points.ply"
    file.write_bytes(points_ply(np.ones((20, 3))))
    with pytest.raises(ValueError, match="20 points in one place"):
        read_splats(file)
