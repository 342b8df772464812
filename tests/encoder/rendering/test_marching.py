import math

import numpy as np
import pytest
import torch

from gmn_encoder.rendering.cameras import Rays
from gmn_encoder.rendering.marching import MISS, STEP, advance, box_intersection, march_rays
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.samples import Samples

from .conftest import join, slow_march, some_grid, some_rays


def borders(samples, ray):
    part = slice(int(samples.offsets[ray]), int(samples.offsets[ray + 1]))
    assert bool((samples.ray_index[part] == ray).all())
    return list(zip(samples.t_starts[part].numpy(), samples.t_ends[part].numpy(), strict=True))


def test_golden_samples_bit_for_bit(golden_render, golden_view_rays, golden_grid):
    t_near, t_far = box_intersection(golden_view_rays)
    assert torch.equal(torch.stack([t_near, t_far], dim=1), golden_render["near_far_f32"])
    assert float(golden_render["step"]) == STEP
    samples = march_rays(golden_view_rays, golden_grid)
    assert torch.equal(samples.ray_index, golden_render["ray_indices"].long())
    assert torch.equal(samples.t_starts, golden_render["t_starts_f32"])
    assert torch.equal(samples.t_ends, golden_render["t_ends_f32"])


@pytest.mark.parametrize(
    ("kind", "resolution"), [("shell", 96), ("ball", 96), ("dust", 96), ("noise", 96), ("noise", 7)]
)
def test_agrees_with_the_march_step_by_step(kind, resolution):
    count = 24 if kind == "noise" else 120
    grid, rays = some_grid(kind, resolution), some_rays(count, seed=5)
    t_near, t_far = box_intersection(rays)
    samples = march_rays(rays, grid)
    for ray in range(count):
        expected = slow_march(
            rays.origins[ray].numpy(),
            rays.directions[ray].numpy(),
            t_near[ray].numpy(),
            t_far[ray].numpy(),
            grid.binary[0].numpy(),
            STEP,
        )
        assert borders(samples, ray) == expected, f"ray {ray}"


@pytest.mark.parametrize("origin", [[0.0, 0.0, 1.5], [0.3, -0.2, 0.1], [0.1, 0.1, -0.9]])
def test_rays_along_an_axis_and_from_within(origin):
    # Zero components divide by zero, and a camera inside the box starts at t = 0.
    grid = some_grid("shell")
    rays = Rays(torch.tensor([origin]), torch.tensor([[0.0, 0.0, -1.0]]))
    t_near, t_far = box_intersection(rays)
    expected = slow_march(
        rays.origins[0].numpy(), rays.directions[0].numpy(), t_near[0], t_far[0].numpy(), grid.binary[0].numpy(), STEP
    )
    assert borders(march_rays(rays, grid), 0) == expected


def test_advance_is_a_loop_of_float32_additions():
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(500, generator=generator) * 3 + 1e-4
    count = torch.randint(0, 900, (500,), generator=generator)
    expected = []
    for t, steps in zip(start.numpy(), count.tolist(), strict=True):
        for _ in range(steps):
            t = t + np.float32(STEP)
        expected.append(t)
    step = float(torch.tensor(STEP, dtype=torch.float32))
    assert torch.equal(advance(start, count, step), torch.tensor(np.array(expected)))


def test_each_nerf_has_its_own_grid():
    grids = [some_grid("shell"), some_grid("dust"), OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool))]
    parts = [some_rays(40, seed) for seed in range(3)]
    together = march_rays(join(*parts), OccupancyGrid.stack(grids))
    alone = [march_rays(rays, grid) for rays, grid in zip(parts, grids, strict=True)]
    assert torch.equal(together.t_starts, torch.cat([samples.t_starts for samples in alone]))
    assert torch.equal(together.t_ends, torch.cat([samples.t_ends for samples in alone]))
    assert torch.equal(together.counts, torch.cat([samples.counts for samples in alone]))
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    mixed = march_rays(join(*parts)[order], OccupancyGrid.stack(grids))
    assert torch.equal(mixed.counts, together.counts[order])


def test_full_grid_samples_the_whole_box():
    rays = some_rays(50)
    samples = march_rays(rays)
    t_near, t_far = box_intersection(rays)
    length = torch.zeros(50).index_add(0, samples.ray_index, samples.t_ends - samples.t_starts)
    torch.testing.assert_close(length, t_far - t_near, rtol=0, atol=STEP)
    assert float(samples.positions(rays).abs().max()) < 0.7


def test_misses_and_broken_rays_have_no_samples():
    directions = torch.tensor([[0.0, 0.0, 1.0], [math.nan, 0.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    rays = Rays(torch.tensor([[0.0, 0.0, 1.5]]).expand(4, 3), directions)
    t_near, t_far = box_intersection(rays)
    assert t_near[0] == t_far[0] == MISS
    assert march_rays(rays, some_grid("ball")).counts[:3].tolist() == [0, 0, 0]
    nothing = march_rays(rays, OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool)))
    assert len(nothing) == 0 and nothing.offsets.tolist() == [0] * 5
    assert len(march_rays(Rays(torch.zeros(0, 3), torch.zeros(0, 3)), some_grid("ball"))) == 0


def test_near_and_far_bound_the_samples():
    rays, grid = some_rays(60), some_grid("ball")
    bounded, free = march_rays(rays, grid, near=1.2, far=1.6), march_rays(rays, grid)
    assert 0 < len(bounded) < len(free)
    assert float(bounded.t_starts.min()) >= 1.2 and float(bounded.middles.max()) < 1.6


def test_stratified_marching_shifts_each_ray_by_part_of_a_step():
    rays = some_rays(200)
    plain = march_rays(rays)
    moved, again = (march_rays(rays, stratified=True, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(moved.t_starts, again.t_starts)
    common = (plain.counts > 0) & (moved.counts > 0)
    shift = (moved.t_starts[moved.offsets[:-1][common]] - plain.t_starts[plain.offsets[:-1][common]]) / STEP
    assert float(shift.min()) >= 0 and float(shift.max()) <= 1.001 and 0.4 < float(shift.mean()) < 0.6


def test_other_steps_and_coarse_grids():
    rays, grid = some_rays(30), some_grid("ball", 12)
    for step in (0.3, 0.05, 0.0005):
        t_near, t_far = box_intersection(rays)
        samples = march_rays(rays, grid, step=step)
        for ray in range(0, 30, 3):
            origin, direction = rays.origins[ray].numpy(), rays.directions[ray].numpy()
            expected = slow_march(
                origin, direction, t_near[ray].numpy(), t_far[ray].numpy(), grid.binary[0].numpy(), step
            )
            assert borders(samples, ray) == expected


def test_selected_samples_keep_their_rays():
    samples = march_rays(some_rays(30), some_grid("ball"))
    keep = torch.arange(len(samples)) % 3 == 0
    part = samples.select(keep)
    assert torch.equal(part.t_starts, samples.t_starts[keep]) and part.num_rays == 30
    assert int(part.counts.sum()) == len(part) == int(keep.sum())
    assert isinstance(part, Samples) and torch.equal(part.counts, torch.bincount(part.ray_index, minlength=30))


def test_wrong_calls_are_refused():
    rays, grids = some_rays(4), OccupancyGrid.stack([some_grid("ball", 8)] * 2)
    with pytest.raises(ValueError, match="2 occupancy grids for rays without nerf_index"):
        march_rays(rays, grids)
    with pytest.raises(ValueError, match="runs from 0 to 2; expected 0 to 1"):
        march_rays(join(rays, rays, rays), grids)
    with pytest.raises(ValueError, match="step is 0"):
        march_rays(rays, step=0)
