"""Teacher rays: what is cached equals what rendering and marching say, and draws take what they should."""

import pytest
import torch

from gmn_encoder import Nerf
from gmn_encoder.rendering.cameras import Rays
from gmn_encoder.rendering.marching import march_rays
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.render import nerf_field, render_rays_front_to_back
from gmn_encoder.seeds import generator_for
from gmn_encoder.training.representation.rays import draw, empty_points, packed_samples, teacher_targets

from .conftest import ARCHITECTURES, ball, cameras

STEP = 1.4 * 3**0.5 / 128


def targets_of(*seeds, grid=None, rays=20, candidates=900):
    nerfs = [Nerf.random(ARCHITECTURES["hash"], seed=seed) for seed in seeds]
    grids = [grid or ball(0.4)] * len(seeds)
    generators = [generator_for("test", seed) for seed in seeds]
    return teacher_targets(
        nerfs, grids, [cameras()] * len(seeds), generators, rays=rays, candidates=candidates, step=STEP
    )


def test_targets_are_what_rendering_gives():
    (targets,) = targets_of(1)
    nerf = Nerf.random(ARCHITECTURES["hash"], seed=1)
    rays = Rays(targets.origins, targets.directions)
    seen = render_rays_front_to_back(nerf_field(nerf), rays, ball(0.4), step=STEP)
    assert len(targets) == 20
    torch.testing.assert_close(targets.colour, seen.colour)
    torch.testing.assert_close(targets.opacity, seen.opacity)
    assert bool((targets.opacity > 0).all())


def test_samples_are_those_of_the_march():
    """Kept as numbers of steps, they come back where `march_rays` had them, up to rounding (1e-6 of a length of 1)."""
    (targets,) = targets_of(1)
    drawn = draw(targets, generator_for(0), rays=20, samples=10**6, points=0, step=STEP, released=False)
    samples = packed_samples([drawn], STEP)
    rays = Rays(targets.origins[drawn.rays], targets.directions[drawn.rays])
    jitter = ((targets.starts[drawn.rays] - _entries(rays)) / STEP).clamp(0, 1)
    expected = march_rays(rays, ball(0.4), step=STEP, jitter=jitter)
    assert samples.counts.tolist() == expected.counts.tolist()
    torch.testing.assert_close(samples.t_starts, expected.t_starts, rtol=0, atol=2e-6)
    assert 0.2 < float(jitter.mean()) < 0.8


def _entries(rays):
    from gmn_encoder.rendering.marching import box_intersection

    return box_intersection(rays)[0]


def test_nerfs_together_or_alone():
    """Rays, random parts and sample numbers of a NeRF do not depend on which others are rendered with it."""
    for together, alone in zip(targets_of(1, 2, 3), (targets_of(seed)[0] for seed in (1, 2, 3)), strict=True):
        for name in ("origins", "directions", "starts", "counts", "steps", "occupied"):
            assert torch.equal(getattr(together, name), getattr(alone, name)), name
        torch.testing.assert_close(together.colour, alone.colour)


def test_empty_grid_gives_no_rays():
    (targets,) = targets_of(1, grid=OccupancyGrid(torch.zeros(24, 24, 24, dtype=torch.bool)))
    assert len(targets) == 0
    drawn = draw(targets, generator_for(0), rays=8, samples=100, points=6, step=STEP, released=False)
    assert (len(drawn.rays), len(drawn.points)) == (0, 6)


def test_few_hits():
    (targets,) = targets_of(1, candidates=30)
    assert 0 < len(targets) < 20


def test_clean_draw_keeps_whole_rays():
    (targets,) = targets_of(1)
    everything = draw(targets, generator_for(0), rays=20, samples=10**6, points=5, step=STEP, released=False)
    total = int(everything.counts.sum())
    half = draw(targets, generator_for(0), rays=20, samples=total // 2, points=5, step=STEP, released=False)
    assert int(half.counts.sum()) <= total // 2
    assert half.rays.tolist() == everything.rays[: len(half.rays)].tolist()
    assert torch.equal(half.t_starts, everything.t_starts[: len(half.t_starts)])


def test_released_draw():
    """Rays run out: the last ones are repeated. Samples: 40 at random of them, in order; points fill up 40 + 10."""
    (targets,) = targets_of(1)
    drawn = draw(targets, generator_for(0), rays=25, samples=40, points=10, step=STEP, released=True)
    assert drawn.rays.tolist() == [*range(20), *range(15, 20)]
    assert int(drawn.counts.sum()) == len(drawn.t_starts) == 40
    assert len(drawn.points) == 10
    few = draw(targets, generator_for(0), rays=1, samples=4000, points=10, step=STEP, released=True)
    assert len(few.points) == 4010 - len(few.t_starts)


@pytest.mark.parametrize("distinct", [False, True])
def test_empty_points_lie_in_empty_voxels(distinct):
    grid = ball(0.5)
    (targets,) = targets_of(1, grid=grid)
    points = empty_points(targets, 2000, generator_for(0), distinct=distinct)
    voxel = ((points + 0.7) / 1.4 * 24).long().clamp(max=23)
    assert len(points) == 2000
    assert not bool(grid.binary[0][voxel[:, 0], voxel[:, 1], voxel[:, 2]].any())
    if distinct:
        assert len(torch.unique(voxel, dim=0)) == 2000


def test_full_grid_has_no_empty_points():
    (targets,) = targets_of(1, grid=OccupancyGrid(torch.ones(24, 24, 24, dtype=torch.bool)))
    for distinct in (False, True):
        assert len(empty_points(targets, 10, generator_for(0), distinct=distinct)) == 0
