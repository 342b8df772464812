"""Asking fields at shared points: what is seen, in which precision, and which fields cannot be read."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gmn_encoder import Nerf, NerfBatch
from gmn_encoder.nerfs.architectures import NerfArchitecture
from gmn_encoder.nerfs.finite import field_flag
from gmn_encoder.nerfs.probing import FieldError, field_grid, read_grid, visible_field, whole_field

POINTS = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) * 1.38 - 0.69


@dataclass(frozen=True, kw_only=True)
class Fog(NerfArchitecture):
    """One density and one colour everywhere in a box, both stored."""

    family: ClassVar[str] = "fog"
    side: float = 0.7

    @property
    def box(self):
        return (-self.side,) * 3, (self.side,) * 3

    @property
    def tensor_shapes(self):
        return {"values": (4,)}

    def query(self, tensors, xyz, directions=None):
        inside = (xyz.abs() < self.side).all(dim=-1, keepdim=True)
        values = tensors["values"][:, None].expand(-1, xyz.shape[1], -1)
        return values[..., :3], values[..., 3:] * inside


def fog(*rows, side=0.7):
    return NerfBatch(Fog(side=side), {"values": torch.tensor(rows)})


def test_what_is_seen():
    seen = visible_field(fog([0.2, 0.4, 0.6, 10.0], [1.0, 1.0, 1.0, 0.0]), POINTS)
    alpha = 1 - math.exp(-10 * 1.4 / 32)
    assert seen.shape == (2, 64, 4)
    torch.testing.assert_close(seen[0, 7], torch.tensor([0.2, 0.4, 0.6, 1.0]) * alpha)
    assert bool((seen[1] == 0).all())
    own = torch.stack([POINTS, POINTS.flip(0)])
    torch.testing.assert_close(visible_field(fog([0, 0, 0, 1.0], [1, 1, 1, 2.0]), own)[1], seen[1] + alpha_of(2.0))


def alpha_of(density):
    return 1 - math.exp(-density * 1.4 / 32)


@pytest.mark.parametrize("architecture", ["MLP-nano", "TRI-nano", "HASH-nano"])
def test_precision_is_that_of_the_field(architecture):
    """float32 whatever the points and the surroundings are: the fields of the paper were trained on its rounding."""
    nerf = Nerf.random(architecture, seed=1)
    batch = NerfBatch.stack([nerf])
    rgb, density = nerf.query(POINTS)
    alpha = 1 - torch.exp(-density * 1.4 / 32)
    expected = torch.cat([rgb * alpha, alpha], dim=-1)
    torch.testing.assert_close(visible_field(batch, POINTS)[0], expected)
    assert torch.equal(visible_field(batch, POINTS.double()), visible_field(batch, POINTS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(visible_field(batch, POINTS), visible_field(batch, POINTS))
        torch.testing.assert_close(visible_field(batch, POINTS)[0], expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_fields_that_are_not_finite(value):
    with pytest.raises(FieldError, match="NaN or infinite somewhere") as caught:
        visible_field(fog([0, 0, 0, 1.0], [0, 0, 0, value]), POINTS)
    assert caught.value.row == 1


def test_box_of_another_size():
    """Outside its box a field is empty; a box that no point lies in is refused."""
    seen = visible_field(fog([1, 1, 1, 9.0], side=0.3), POINTS)[0, :, 3]
    inside = (POINTS.abs() < 0.3).all(dim=-1)
    assert bool((seen[inside] > 0.3).all()) and bool((seen[~inside] == 0).all()) and bool(inside.any())
    with pytest.raises(FieldError, match="holds none of the points"):
        visible_field(fog([1, 1, 1, 9.0], side=1e-4), POINTS)


def test_grids():
    """At its own points a grid is the field; between them the weighted mean of the corners; nothing outside."""
    batch = NerfBatch.stack([Nerf.random(name, seed=1) for name in ("MLP-nano",)] * 2)
    grids = field_grid(batch, 3)
    assert grids.shape == (2, 27, 4) and grids.dtype == torch.float16
    places = torch.tensor([-0.69, 0.0, 0.69])
    corners = torch.cartesian_prod(places, places, places).expand(2, -1, -1)
    torch.testing.assert_close(read_grid(grids, corners), visible_field(batch, corners), rtol=0, atol=1e-3)
    between = read_grid(grids, torch.tensor([[[0.345, 0.69, -0.69]], [[0.0, 0.0, 0.8]]]))
    torch.testing.assert_close(between[0, 0], (grids[0, 15] + grids[0, 24]).float() / 2, rtol=0, atol=1e-3)
    assert bool((between[1] == 0).all())


def test_whole_fields():
    seen = visible_field(fog([1, 1, 1, 0.0], [1, 1, 1, 1e4], [1, 1, 1, 20.0]), POINTS)
    assert whole_field(seen) == ["empty", "full", None]


def test_what_is_unusual_about_a_field():
    """Nothing to see, nothing but what is solid, an object."""
    seen = {0.0: "empty", 1e4: "full", 20.0: None}
    for density, flag in seen.items():
        assert field_flag(Nerf(Fog(), {"values": torch.tensor([1, 1, 1, density])})) == flag
    thin = Nerf(Fog(side=0.65), {"values": torch.tensor([1, 1, 1, 1e4])})
    assert field_flag(thin) == "full"  # its own box is what counts
