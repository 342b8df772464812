import pytest
import torch

from gmn_encoder import Nerf, load_nerf
from gmn_encoder.nerfs.record import NerfBatch
from gmn_encoder.rendering.cameras import turntable
from gmn_encoder.rendering.marching import march_rays
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.render import batch_field, nerf_field, render_rays, render_rays_front_to_back, render_views

from .conftest import ball_field, join, nerf_directory, some_grid, some_rays

BACKGROUND = torch.tensor([1.0, 0.5, 0.25])


def dense_field(nerf, dtype):
    """The golden field: the density of the NeRF times 8."""

    def field(xyz, nerf_index):
        rgb, density = nerf.query(xyz.to(dtype))
        return rgb, density * 8

    return field


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-6)])
def test_golden_rendering(golden_render, golden_view_rays, golden_grid, dtype, tolerance):
    field = dense_field(load_nerf(nerf_directory("hash")), dtype)
    background = BACKGROUND.to(dtype)
    results = [render_rays(field, golden_view_rays, golden_grid, background=background)]
    if dtype == torch.float32:
        results.append(render_rays_front_to_back(field, golden_view_rays, golden_grid, background=background))
    for rendering in results:
        for ours, name in ((rendering.colour, "rgb"), (rendering.opacity, "opacity"), (rendering.depth, "depth")):
            torch.testing.assert_close(ours.double(), golden_render[f"{name}_f64"], rtol=0, atol=tolerance)


def test_front_to_back_is_the_visibility_filter():
    rays, grid = some_rays(200), some_grid("ball").dilated()
    whole = render_rays(ball_field, rays, grid, background=BACKGROUND)
    filtered = render_rays(
        ball_field, rays, grid, background=BACKGROUND, density=lambda xyz, index: ball_field(xyz, index)[1]
    )
    asked = []

    def counting(xyz, nerf_index):
        asked.append(len(xyz))
        return ball_field(xyz)

    slabs = render_rays_front_to_back(counting, rays, grid, background=BACKGROUND)
    torch.testing.assert_close(slabs.colour, filtered.colour, rtol=0, atol=2e-6)
    torch.testing.assert_close(slabs.opacity, filtered.opacity, rtol=0, atol=2e-6)
    torch.testing.assert_close(slabs.depth, filtered.depth, rtol=0, atol=2e-6)
    # What the filter leaves out is less than its threshold, but not nothing.
    difference = float((whole.opacity - filtered.opacity).abs().max())
    assert 1e-6 < difference < 1e-4
    assert sum(asked) < len(march_rays(rays, grid))


def test_a_threshold_of_zero_filters_nothing():
    rays, grid = some_rays(20), some_grid("ball")
    whole = render_rays(ball_field, rays, grid)
    kept = render_rays(ball_field, rays, grid, threshold=0.0, density=lambda xyz, index: 1e9 * xyz[:, 0].abs())
    assert torch.equal(whole.colour, kept.colour)


def test_gradients_reach_the_weights_of_a_nerf_and_agree_with_a_loop():
    nerf = Nerf.random({"family": "hash", "hidden_layers": 1, "hidden_dim": 16}, seed=2)
    tensors = {key: tensor.double().mul(3).requires_grad_() for key, tensor in nerf.tensors.items()}
    nerf = Nerf(nerf.architecture, tensors)
    rays, grid = some_rays(6), some_grid("shell")
    field = dense_field(nerf, torch.float64)
    background = BACKGROUND.double()
    samples = march_rays(rays, grid)
    rgb, density = field(samples.positions(rays), None)
    expected = []
    for ray in range(6):
        light, colour = torch.ones((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for sample in (samples.ray_index == ray).nonzero()[:, 0].tolist():
            alpha = 1 - torch.exp(-density[sample, 0] * (samples.t_ends[sample] - samples.t_starts[sample]).double())
            colour, light = colour + light * alpha * rgb[sample], light * (1 - alpha)
        expected.append(colour + light * background)
    expected = torch.stack(expected)
    colour = render_rays(field, rays, grid, background=background).colour
    torch.testing.assert_close(colour, expected, rtol=0, atol=1e-8)
    ours = torch.autograd.grad(colour.square().sum(), list(tensors.values()))
    loop = torch.autograd.grad(expected.square().sum(), list(tensors.values()))
    for mine, other in zip(ours, loop, strict=True):
        assert float(other.abs().max()) > 0
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("family", ["mlp", "triplane", "hash"])
def test_many_nerfs_at_once_are_each_of_them(family):
    architecture = {"family": family, "hidden_layers": 1, "hidden_dim": 16}
    nerfs = [Nerf.random(architecture, seed=seed) for seed in range(3)]
    grids = [some_grid("shell"), some_grid("dust"), OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool))]
    parts = [some_rays(30, seed) for seed in range(3)]
    rays = join(*parts)
    order = torch.randperm(len(rays), generator=torch.Generator().manual_seed(0))
    alone = [
        render_rays(nerf_field(n), r, g, background=BACKGROUND) for n, r, g in zip(nerfs, parts, grids, strict=True)
    ]
    field, grid = batch_field(NerfBatch.stack(nerfs)), OccupancyGrid.stack(grids)
    expected = torch.cat([rendering.colour for rendering in alone])[order]
    for render in (render_rays, render_rays_front_to_back):
        together = render(field, rays[order], grid, background=BACKGROUND)
        torch.testing.assert_close(together.colour, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="without nerf_index"):
        field(torch.zeros(3, 3), None)


def test_views_are_images_of_the_object():
    def solid(xyz, nerf_index):
        return ball_field(xyz)[0], 1000.0 * (xyz.norm(dim=-1) < 0.4)

    steps = []
    views = render_views(
        solid,
        turntable(2, size=32),
        some_grid("ball").dilated(),
        background=torch.ones(3),
        progress=lambda stage, done, total: steps.append((done, total)),
    )
    assert views.colour.shape == (2, 32, 32, 3) and views.opacity.shape == views.depth.shape == (2, 32, 32)
    assert float(views.opacity[:, 16, 16].min()) > 0.99 and float(views.opacity[:, 0, 0].max()) == 0
    torch.testing.assert_close(views.colour[:, 0, 0], torch.ones(2, 3))
    # The near side of a ball of radius 0.4 seen from 1.5; the disc it covers has a radius of focal * tan(asin(0.4 / 1.5)).
    torch.testing.assert_close(views.depth[:, 16, 16], torch.full((2,), 1.1), rtol=0, atol=0.03)
    assert abs(float(views.opacity.sum()) / 2 - torch.pi * (35.0 * 0.2767) ** 2) < 12
    assert steps[-1] == (2 * 32 * 32, 2 * 32 * 32)


def test_no_rays_and_nothing_to_see():
    empty = OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool))
    for render in (render_rays, render_rays_front_to_back):
        assert render(ball_field, some_rays(0), empty, background=BACKGROUND).colour.shape == (0, 3)
        nothing = render(ball_field, some_rays(3), empty, background=BACKGROUND)
        torch.testing.assert_close(nothing.colour, BACKGROUND.expand(3, 3))
