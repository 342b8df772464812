"""Recolouring in the weights: the field is the recoloured field, exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gmn_encoder import Nerf
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES, parse_architecture
from gmn_encoder.nerfs.network import NetworkArchitecture
from gmn_encoder.nerfs.recolouring import COUNT, Recolouring, recolour

POINTS = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) * 1.3 - 0.65


@pytest.mark.parametrize("architecture", [*NANO_ARCHITECTURES.values(), "MLP", "TRI-2L", "HASH-32H"], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_the_field_is_recoloured_and_its_density_is_the_same(architecture, bias):
    nerf = Nerf.random(dataclasses.replace(parse_architecture(architecture), bias=bias), seed=3)
    rgb, density = nerf.query(POINTS)
    for number in (0, 1, 13, 30, 47):
        recolouring = Recolouring.numbered(number)
        other_rgb, other_density = recolour(nerf, recolouring).query(POINTS)
        torch.testing.assert_close(other_rgb, recolouring.colours(rgb), atol=1e-6, rtol=0)
        torch.testing.assert_close(other_density, density, atol=0, rtol=0)


def test_there_are_48_and_each_has_its_number():
    colour = np.array([0.1, 0.4, 0.8])
    found = {tuple(np.round(Recolouring.numbered(number).colours(colour), 6)) for number in range(COUNT)}
    assert len(found) == COUNT == 48
    assert all(Recolouring.numbered(number).number == number for number in range(COUNT))
    assert Recolouring.numbered(0) == Recolouring()
    assert colour.tolist() == [0.1, 0.4, 0.8]  # what was given is left alone
    assert Recolouring((2, 1, 0), (False, False, True)).colours(colour) == pytest.approx([0.8, 0.4, 0.9])


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="recolouring 48 does not exist; expected 0 to 47"):
        Recolouring.numbered(48)
    with pytest.raises(ValueError, match="expected a permutation of 0, 1, 2"):
        Recolouring(order=(0, 0, 1))

    class Lit(type(parse_architecture("MLP-nano"))):
        def _colour_and_density(self, *arguments):
            rgb, density = super()._colour_and_density(*arguments)
            return rgb / 2, density

    assert issubclass(Lit, NetworkArchitecture)
    with pytest.raises(ValueError, match="the colour of mlp NeRFs is not the sigmoid"):
        recolour(Nerf.random(Lit()), Recolouring())
