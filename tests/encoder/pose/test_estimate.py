"""Poses of fields whose poses are known."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from gmn_encoder import Nerf, TurnedField, estimate_pose, estimate_poses, load_nerf
from gmn_encoder.pose.rotations import geodesic_angle, matrix_of, random_rotations
from gmn_encoder.pose.search import SearchSettings

SHIPPED = Path(__file__).parents[3] / "llana_gmn/default/nerfs"
QUICK = SearchSettings(rotations=1500, kept=12, points=1500, seen=6, views=((12, 6, 4), (32, 2, 6)))


def off(found, quaternion):
    return math.degrees(float(geodesic_angle(torch.tensor(found.quaternion), quaternion)))


@pytest.mark.parametrize("seed", range(4))
def test_the_turn_of_a_field(crooked, seed):
    quaternion = random_rotations(1, torch.Generator().manual_seed(seed))[0]
    found = estimate_pose(crooked, TurnedField(crooked, matrix_of(quaternion)), settings=QUICK)
    assert off(found, quaternion) < 0.3 and found.mismatch < 0.01
    assert torch.allclose(found.matrix.float(), matrix_of(quaternion), atol=0.01)
    assert found.error < 1 and found.axis is None and not found.near_equal
    assert found.runner_up is None or found.runner_up.mismatch > 0.1


def test_equal_fields_are_not_turned(crooked):
    found = estimate_pose(crooked, crooked, settings=QUICK)
    assert found.quaternion == (1, 0, 0, 0) and found.mismatch == 0 and found.angle == 0
    assert found.euler == (0, 0, 0) and found.scale == 1 and found.shift == (0, 0, 0)


def test_scale_and_shift(crooked):
    quaternion = random_rotations(1, torch.Generator().manual_seed(3))[0]
    shift = torch.tensor([0.1, -0.05, 0.08])
    moved = TurnedField(crooked, matrix_of(quaternion), 0.7, shift)
    found = estimate_pose(crooked, moved, similarity=True)
    assert off(found, quaternion) < 1
    assert found.scale == pytest.approx(0.7, abs=0.02)
    assert torch.tensor(found.shift) == pytest.approx(shift, abs=0.02)


def test_all_answers_of_a_symmetric_field(brick):
    quaternion = random_rotations(1, torch.Generator().manual_seed(5))[0]
    found = estimate_pose(brick, TurnedField(brick, matrix_of(quaternion)), settings=QUICK)
    assert len(found.near_equal) == 1 and found.near_equal[0] == found.runner_up
    assert found.degrees_from(found.near_equal[0]) == pytest.approx(180, abs=1)
    assert min(off(each, quaternion) for each in (found, *found.near_equal)) < 1
    assert found.axis is None


def test_a_round_field_has_an_axis(dumbbell):
    quaternion = random_rotations(1, torch.Generator().manual_seed(6))[0]
    turned = TurnedField(dumbbell, matrix_of(quaternion))
    found = estimate_pose(dumbbell, turned, settings=QUICK)
    axis = torch.tensor(found.axis)
    assert float((axis @ matrix_of(quaternion)[:, 0]).abs()) > 0.999
    assert found.near_equal


def test_the_inverse_is_the_way_back(crooked):
    quaternion = random_rotations(1, torch.Generator().manual_seed(7))[0]
    turned = TurnedField(crooked, matrix_of(quaternion))
    there, back = estimate_poses([crooked, turned], [turned, crooked], settings=QUICK)
    assert torch.allclose(there.matrix @ back.matrix, torch.eye(3, dtype=torch.float64), atol=0.01)


def test_a_guess_is_looked_at(crooked):
    quaternion = random_rotations(1, torch.Generator().manual_seed(8))[0]
    turned = TurnedField(crooked, matrix_of(quaternion))
    few = dataclasses.replace(QUICK, rotations=1)
    found = estimate_pose(crooked, turned, settings=few, guesses=-quaternion[None])
    assert off(found, quaternion) < 0.3
    with pytest.raises(ValueError, match="expected four numbers"):
        estimate_pose(crooked, turned, settings=few, guesses=torch.zeros(1, 4))


def test_numbers_for_json(crooked):
    found = estimate_pose(crooked, crooked, settings=QUICK)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["quaternion"] == [1, 0, 0, 0] and told["matrix"][2][2] == 1
    assert {"error_degrees", "runner_up", "near_equal", "axis", "angle_degrees", "euler_xyz_degrees"} <= told.keys()


def test_nerfs_of_two_families():
    """An airplane that ships, fitted twice from weights of its own."""
    places = sorted(SHIPPED.glob("*/02691156/*"))
    by_family = {place.parts[-3]: place for place in places if place.name == places[0].name}
    a, b = load_nerf(by_family["hash"]), load_nerf(by_family["triplane"])
    quaternion = random_rotations(1, torch.Generator().manual_seed(0))[0]
    found = estimate_pose(a, TurnedField(b, matrix_of(quaternion)))
    assert min(off(each, quaternion) for each in (found, *found.near_equal)) < 10
    assert found.mismatch < 0.8


class Fog:
    def __init__(self, density):
        self.density = density

    def query(self, xyz):
        return torch.ones_like(xyz), torch.full_like(xyz[..., :1], self.density)


@pytest.mark.parametrize(
    ("density", "said"), [(0.0, "is empty"), (1e4, "is full"), (math.nan, "NaN or infinite"), (math.inf, "is full")]
)
def test_fields_without_content_have_no_pose(crooked, density, said):
    for pair, name in (((Fog(density), crooked), "field A"), ((crooked, Fog(density)), "field B")):
        with pytest.raises(ValueError, match=f"{name}: .*{said}"):
            estimate_pose(*pair, settings=QUICK)


def test_a_nerf_without_content_is_named():
    empty = Nerf.random("MLP-nano")
    empty = Nerf(empty.architecture, {key: 0 * value for key, value in empty.tensors.items()})
    with pytest.raises(ValueError, match=r"MLP.*NeRF: its field is empty throughout"):
        estimate_pose(empty, empty)


def test_pairs_are_pairs(crooked):
    with pytest.raises(ValueError, match="expected as many"):
        estimate_poses([crooked], [])
