"""What is compared in the end: views, with occlusion, of what the occupancy grid lets be seen."""

import dataclasses
import math

import pytest
import torch

from gmn_encoder import Nerf, TurnedField, estimate_pose, load_nerf, save_nerf
from gmn_encoder.pose.fields import BakedField, VisibleField, visible
from gmn_encoder.pose.rotations import geodesic_angle, matrix_of, multiply, quaternion_of_vector, random_rotations
from gmn_encoder.pose.search import Motions, SearchSettings, refine
from gmn_encoder.pose.views import VIEWS, ParallelRays, ViewProblem
from gmn_encoder.rendering.occupancy import OccupancyGrid, occupancy_from_density, write_occupancy

from .conftest import Balls

QUICK = SearchSettings(rotations=1500, kept=12, points=1500, seen=6, views=((12, 6, 4), (32, 2, 6)))
STILL = Motions.turns(torch.eye(4)[:1])


@dataclasses.dataclass(frozen=True)
class Hazy:
    """A field among stripes of fog that stand along the axes whichever way the field is turned."""

    field: object

    def query(self, xyz):
        rgb, density = self.field.query(xyz)
        striped = (torch.sin(9 * xyz[..., :1]) * torch.sin(7 * xyz[..., 1:2] + 1) > 0) & (
            xyz.norm(dim=-1, keepdim=True) > 0.6
        )
        return torch.where(striped, 0.5, rgb), torch.where(striped, 300.0, density)


def only_where(field, hazy):
    grid = occupancy_from_density(lambda xyz: field.query(xyz)[1], resolution=32)
    return VisibleField(hazy, grid)


def test_haze_beyond_the_grid_does_not_count(crooked):
    quaternion = random_rotations(1, torch.Generator().manual_seed(4))[0]
    turned = TurnedField(crooked, matrix_of(quaternion))
    pair = [only_where(each, Hazy(each)) for each in (crooked, turned)]
    found = estimate_pose(*pair, settings=QUICK)
    assert math.degrees(float(geodesic_angle(torch.tensor(found.quaternion), quaternion))) < 1.5
    hazy = estimate_pose(Hazy(crooked), Hazy(turned), settings=QUICK)  # whose haze has not turned
    assert math.degrees(float(geodesic_angle(torch.tensor(hazy.quaternion), quaternion))) > 10


def test_the_grid_beside_the_weights_is_read(tmp_path):
    binary = torch.zeros(4, 4, 4, dtype=torch.bool)
    binary[2:, 2:, 2:] = True  # the octant of positive coordinates
    save_nerf(Nerf.random("HASH-nano"), tmp_path / "with")
    save_nerf(Nerf.random("HASH-nano"), tmp_path / "without")
    write_occupancy(OccupancyGrid(binary), tmp_path / "with" / "grid.pth")
    nerf, other = load_nerf(tmp_path / "with"), load_nerf(tmp_path / "without")
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
    there = (points > 0).all(dim=1)
    rgb, density = visible(nerf).query(points.view(2, 100, 3))
    assert rgb.shape == (2, 100, 3) and density.shape == (2, 100, 1)
    assert torch.equal(density.view(-1) > 0, there) and not bool(rgb.view(-1, 3)[~there].any())
    torch.testing.assert_close(density.view(-1, 1)[there], nerf.query(points)[1][there])
    assert visible(other) is other
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = visible(TurnedField(nerf, quarter)).query(points)[1]
    assert torch.equal(turned.view(-1) > 0, (points @ quarter > 0).all(dim=1))
    (tmp_path / "with" / "grid.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"grid\.pth"):
        estimate_pose(nerf, nerf)


def test_the_opacity_of_a_ball_of_fog():
    """Through the middle of a ball of radius 0.4 and density 3 opacity is 1 - exp(-2.4); beside it there is nothing."""

    class Ball:
        def query(self, xyz):
            return torch.full_like(xyz, 0.25), 3.0 * (xyz.norm(dim=-1, keepdim=True) < 0.4)

    seen = ParallelRays(32).see(BakedField(Ball()), STILL).view(VIEWS, 32, 32, 4)
    middle = seen[:, 15:17, 15:17]
    assert middle[..., 3].mean() == pytest.approx(1 - math.exp(-2.4), abs=0.02)
    assert middle[..., 0].mean() == pytest.approx(0.25 * (1 - math.exp(-2.4)), abs=0.01)
    assert float(seen[:, 0, 0].abs().max()) == 0


def test_what_is_hidden_does_not_count():
    """A ball within an opaque one is in the volume, and in no view; one in front of it is in some."""
    outer, inner = torch.zeros(1, 3), torch.tensor([[0.1, 0.0, 0.0]])
    colours = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    alone = Balls(outer, torch.tensor([0.4]), colours[:1])
    hiding = Balls(torch.cat([outer, inner]), torch.tensor([0.4, 0.1]), colours)
    outside = Balls(torch.cat([outer, 4.5 * inner]), torch.tensor([0.4, 0.1]), colours)
    plain = BakedField(alone)
    assert float(ViewProblem(plain, BakedField(hiding), 24).mismatch(STILL)) < 1e-4
    assert float(ViewProblem(plain, BakedField(outside), 24).mismatch(STILL)) > 0.01


def test_steps_on_views_find_the_way_back(crooked):
    quaternion = random_rotations(1, torch.Generator().manual_seed(9))[0]
    baked = [BakedField(each) for each in (crooked, TurnedField(crooked, matrix_of(quaternion)))]
    off = quaternion_of_vector(torch.tensor([[0.1, -0.08, 0.06], [0.0, 0.0, 0.0]]))
    starts = Motions.turns(multiply(off, quaternion[None]))
    problem = ViewProblem(*baked, 32)
    before = problem.mismatch(starts)
    ends, after = refine(problem, starts, 6)
    errors = torch.rad2deg(geodesic_angle(ends.quaternions, quaternion[None]))
    assert float(before[0]) > 5 * float(before[1]) and bool((after <= before).all())
    assert float(errors.max()) < 0.2
