"""How a source's world is brought into the box, and back."""

from __future__ import annotations

import math

import pytest
import torch

from gmn_encoder.fitting.placement import Placement, PlacementRequest

UPS = [(0, 0, 1), (0, 1, 0), (0, -2, 0), (0, 0, -1), (1, 2, -0.5)]


@pytest.mark.parametrize("up", UPS)
def test_up_becomes_z_by_a_rotation_that_leads_back(up):
    placement = Placement(center=(1.0, -2.0, 3.0), scale=0.25, up=up)
    turn = placement.turn
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.det(turn)) == pytest.approx(1)
    length = math.hypot(*up)
    tip = torch.tensor([[1 + up[0] / length, -2 + up[1] / length, 3 + up[2] / length]], dtype=torch.float64)
    torch.testing.assert_close(placement.to_box(tip), torch.tensor([[0, 0, 0.25]], dtype=torch.float64))
    points = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close(placement.to_source(placement.to_box(points)), points)
    # Directions turn with the points that they join.
    ahead = placement.to_source(points + 1e-3) - placement.to_source(points)
    directions = placement.directions_to_source(torch.ones(9, 3, dtype=torch.float64))
    torch.testing.assert_close(ahead / ahead.norm(dim=1, keepdim=True), directions / math.sqrt(3))


def test_the_way_is_in_the_record():
    record = Placement(center=(1.0, 0.0, 0.0), scale=2.0, up=(0.0, 1.0, 0.0), found_by="the user").to_dict()
    x = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    turned = record["scale"] * torch.tensor(record["turn"], dtype=torch.float64) @ (x - torch.tensor(record["center"]))
    torch.testing.assert_close(turned, torch.tensor([4.0, -1.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": math.inf}, "scale is inf"),
        ({"center": (0.0, math.nan, 0.0)}, "centre is"),
        ({"up": (0.0, 0.0, 0.0)}, "direction of up"),
    ],
)
def test_numbers_that_place_nothing(given, message):
    with pytest.raises(ValueError, match=message):
        PlacementRequest(**given)
