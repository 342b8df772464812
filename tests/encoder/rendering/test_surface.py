import numpy as np
import pytest
import torch

from gmn_encoder import Nerf
from gmn_encoder.rendering.marching import STEP
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.surface import in_unit_sphere, random_lines, surface_points, write_points
from gmn_encoder.rendering.voxels import voxel_centers

from .conftest import ball_field, some_grid

CENTRE = torch.tensor([0.1, -0.05, 0.2])


def hard_ball(radius=0.3, density=1e6):
    """A ball at `CENTRE` whose colours are its places."""

    def field(xyz, nerf_index=None):
        inside = (xyz - CENTRE).norm(dim=-1) < radius
        return (xyz + 0.7) / 1.4, torch.where(inside, density, 0.0)

    return field, OccupancyGrid((voxel_centers() - CENTRE).norm(dim=-1) < radius + 0.03)


@pytest.mark.parametrize("density", [1e6, float("inf")])
def test_points_lie_on_a_ball_with_its_colours(density):
    field, grid = hard_ball(density=density)
    xyz, rgb = surface_points(field, grid, count=2000)
    assert xyz.shape == rgb.shape == (2000, 3) and xyz.dtype == rgb.dtype == torch.float32
    distance = (xyz - CENTRE).norm(dim=-1)
    # Density is looked at in the middle of a sample: the surface is within half a step along the ray, at most.
    assert float((distance - 0.3).abs().max()) <= STEP / 2 + 1e-6
    torch.testing.assert_close(rgb, (xyz + 0.7) / 1.4)


def test_points_are_even_over_the_surface():
    """Of a ball's surface, equal shares lie between planes of equal distance (Archimedes), along any axis."""
    field, grid = hard_ball()
    xyz, _ = surface_points(field, grid, count=8000)
    unit = (xyz - CENTRE) / 0.3
    for axis in (*torch.eye(3), torch.ones(3) / 3**0.5):
        shares = torch.histc(unit @ axis, bins=8, min=-1, max=1) / len(unit)
        assert float((shares - 1 / 8).abs().max()) < 5 * (1 / 8 * 7 / 8 / 8000) ** 0.5


def test_a_soft_ball_is_met_where_half_of_the_light_is_lost():
    xyz, rgb = surface_points(ball_field, some_grid("ball").dilated(4), count=2000)
    # Straight to the middle, density 40 sigmoid(60 d) at depth d sums to 40 / 60 log(1 + exp(60 d)), log(2) at d = 0.0101;
    # a line that grazes the ball goes less deep.
    distance = xyz.norm(dim=-1)
    assert float(distance.min()) == pytest.approx(0.4 - 0.0101, abs=STEP)
    assert float(distance.median()) < 0.41
    torch.testing.assert_close(rgb, ball_field(xyz)[0])


def test_the_seed_decides():
    field, grid = hard_ball()
    first, again, other = (surface_points(field, grid, count=500, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(surface_points(field, grid, count=100, seed=1)[0], first[:100])


def test_what_cannot_be_seen_is_refused():
    field, grid = hard_ball()
    nerf = Nerf.random({"family": "mlp", "hidden_layers": 1, "hidden_dim": 16})
    thin = Nerf(nerf.architecture, {key: torch.zeros_like(tensor) for key, tensor in nerf.tensors.items()})
    nothing = OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"NeRF: nothing in it is dense enough to be seen; expected an object"):
        surface_points(thin, grid)  # density exp(-1): half of the light is left behind 1.9
    with pytest.raises(ValueError, match="the field: nothing in it is dense enough"):
        surface_points(field, nothing)
    with pytest.raises(ValueError, match="0 points asked for"):
        surface_points(field, grid, count=0)
    with pytest.raises(ValueError, match="without an occupancy grid"):
        surface_points(field)


def test_lines_are_even_through_a_ball():
    rays = random_lines(20000, torch.tensor([0.1, 0.2, 0.3]), 0.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(20000))
    to_centre = torch.tensor([0.1, 0.2, 0.3]) - rays.origins
    along = (to_centre * rays.directions).sum(dim=-1)
    torch.testing.assert_close(along, torch.full((20000,), 1.0))  # they begin outside, two radii before
    nearest = (to_centre - along[:, None] * rays.directions).norm(dim=-1)
    assert float(nearest.max()) <= 0.5 + 1e-5
    assert float((nearest < 0.25).float().mean()) == pytest.approx(1 / 4, abs=0.015)  # of the disc's area
    assert float(rays.directions.mean(dim=0).abs().max()) < 0.02


def test_unit_sphere():
    xyz = in_unit_sphere(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 3 + 5)
    assert float(xyz.mean(dim=0).abs().max()) < 1e-6
    assert float(xyz.norm(dim=-1).max()) == pytest.approx(1.0)
    assert torch.equal(in_unit_sphere(torch.ones(1, 3)), torch.zeros(1, 3))


def test_files(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    field, grid = hard_ball()
    xyz, rgb = surface_points(field, grid, count=64)
    write_points(xyz, rgb, tmp_path / "a.npy")
    values = np.load(tmp_path / "a.npy")
    assert values.dtype == np.float32 and values.shape == (64, 6)
    assert np.array_equal(values, torch.cat([xyz, rgb], dim=1).numpy())
    write_points(xyz, rgb, tmp_path / "a.ply")
    cloud = trimesh.load(tmp_path / "a.ply")
    assert np.array_equal(cloud.vertices.astype(np.float32), xyz.numpy())
    assert np.abs(cloud.colors[:, :3] / 255 - rgb.numpy()).max() <= 0.5 / 255 + 1e-6
    with pytest.raises(ValueError, match=r"a.obj: unknown kind '.obj' of a point cloud; expected .ply or .npy"):
        write_points(xyz, rgb, tmp_path / "a.obj")
