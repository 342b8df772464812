import pytest
import torch

from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.rendering.baking import bake_nerf
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.voxels import voxel_centers


def test_a_baked_field_is_the_nerf_at_voxel_centres_and_nothing_far_from_the_grid():
    nerf = Nerf.random("TRI-nano", seed=3)
    binary = torch.zeros(16, 16, 16, dtype=torch.bool)
    binary[4:8, 2:6, 9:12] = True
    field = bake_nerf(nerf, OccupancyGrid(binary), resolution=16)
    centers = voxel_centers(16)
    inside = centers[binary]
    rgb, density = field(inside, None)
    expected_rgb, expected_density = nerf.query(inside)
    assert torch.allclose(rgb, expected_rgb, atol=1e-5)
    assert torch.allclose(density, expected_density[:, 0], rtol=1e-4, atol=1e-5)
    assert float(field(centers[12, 12, 2][None], None)[1].abs().max()) == 0
    between = (centers[5, 3, 10] + centers[6, 3, 10]) / 2  # halfway: the mean of two
    pair = field(torch.stack([centers[5, 3, 10], centers[6, 3, 10]]), None)[1]
    assert float(field(between[None], None)[1]) == pytest.approx(float(pair.mean()), rel=1e-4)


def test_one_grid_is_baked():
    grid = OccupancyGrid(torch.zeros(2, 4, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="2 grids and a resolution of 128; expected one grid"):
        bake_nerf(Nerf.random("TRI-nano"), grid)
