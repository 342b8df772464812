"""Measured truths: names of colours, shares of what is seen, proportions and symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from gmn_encoder.nerfs.recolouring import Recolouring
from gmn_encoder.objects import generate
from gmn_encoder.objects.colour_names import basic_colour, clear_colour_name, colour_names, colour_shares
from gmn_encoder.objects.measuring import Measurements, measure, seen_colours
from gmn_encoder.objects.mesh_changes import mirrored, recoloured, stretched, turned, upright
from gmn_encoder.objects.procedural.materials import COLOURS

CALLED = {
    "grey": [(104, 104, 104), (128, 128, 128)], "dark grey": [(60, 60, 60), (66, 85, 85)], "black": [(30, 30, 30)],
    "light grey": [(181, 199, 199)], "white": [(250, 248, 240)], "brown": [(101, 67, 33), (160, 82, 45)],
    "beige": [(242, 219, 182), (210, 180, 140)], "orange": [(255, 165, 0), (204, 120, 36)], "red": [(255, 0, 0), (178, 34, 34)],
    "pink": [(255, 105, 180)], "yellow": [(255, 215, 0)], "green": [(0, 128, 0)], "turquoise": [(64, 224, 208)],
    "blue": [(65, 105, 225)], "dark blue": [(0, 0, 128)], "purple": [(148, 0, 211)], "light blue": [(135, 206, 235)],
}  # fmt: skip


def test_colours_are_called_what_people_call_them():
    for name, colours in CALLED.items():
        assert colour_names(np.array(colours) / 255) == [name] * len(colours)


def test_every_shade_of_a_procedural_colour_has_its_name():
    steps = np.random.default_rng(0).integers(-9, 10, (50, 3))
    for name, rgb in COLOURS.items():
        assert set(colour_names((np.array(rgb) + steps).clip(0, 255) / 255)) == {name}


def test_shares_and_basic_colours():
    shares = colour_shares([[1, 0, 0], [0, 0, 1], [1, 0, 0]], [1, 1, 2])
    assert shares == {"red": 0.75, "blue": 0.25} and list(shares) == ["red", "blue"]
    assert basic_colour("dark green") == "green" and basic_colour("pink") == "pink"
    assert clear_colour_name([1, 0, 0]) == "red"
    assert clear_colour_name([1, 0, 0], margin=1) is None  # as far from red as from the next colour, but for the margin


def test_a_procedural_object_is_measured_as_it_was_made():
    lamp = generate("lamp", 3)  # a floor lamp with one lampshade
    found = measure(lamp.mesh)
    assert {name for name, share in found.colours.items() if share > 0.1} == {
        c for cs in lamp.colours.values() for c in cs
    }
    assert found.extents[2] == 1.0 and found.symmetric is True
    assert sum(found.colours.values()) == pytest.approx(1)
    assert Measurements.from_dict(found.to_dict()).colours.keys() == found.colours.keys()


def test_what_is_seen_of_a_recoloured_nerf_is_recoloured():
    red_and_white = Measurements([(0.8, 0.15, 0.15, 0.6), (0.93, 0.93, 0.92, 0.4)], (1.0, 1.0, 1.0), True)
    assert list(red_and_white.recoloured(Recolouring((2, 1, 0))).colours) == ["blue", "white"]
    inverted = red_and_white.recoloured(Recolouring(inverted=(True, True, True)))
    assert list(inverted.colours) == ["turquoise", "dark grey"]


def test_colours_of_pictures_are_those_of_what_stands_in_them():
    images = np.zeros((2, 4, 4, 4), np.uint8)
    images[:, :2] = (170, 30, 30, 255)  # red under the light
    images[0, 2] = (30, 30, 170, 255)
    assert seen_colours(images) == pytest.approx({"red": 0.8, "blue": 0.2})
    with pytest.raises(ValueError, match="nothing is seen in the pictures"):
        seen_colours(images[:, 3:])


def test_changes_of_a_mesh_change_what_they_say():
    sofa = generate("sofa", 0).mesh
    before = measure(sofa)
    after = measure(stretched(sofa, 1, 1, 4))
    assert after.extents[2] / after.extents[0] == pytest.approx(4 * before.extents[2] / before.extents[0], rel=1e-3)
    quarter = measure(turned(sofa, 90))
    assert quarter.extents == pytest.approx((before.extents[1], before.extents[0], before.extents[2]), rel=1e-3)
    twice = mirrored(mirrored(sofa))
    assert (twice.faces == sofa.faces).all() and (twice.vertices == sofa.vertices).all()
    normals = mirrored(sofa)
    flat = np.cross(*(normals.vertices[normals.faces][:, k] - normals.vertices[normals.faces][:, 0] for k in (1, 2)))
    assert ((flat * normals.normals.mean(axis=1)).sum(axis=1) > -1e-6).mean() > 0.99  # they still point outwards
    blue = measure(recoloured(generate("lamp", 3).mesh, Recolouring((1, 2, 0))))
    assert list(blue.colours) != list(measure(generate("lamp", 3).mesh).colours)


def test_an_upright_mesh_stands_along_z():
    sofa = generate("sofa", 0).mesh
    lying = upright(sofa, "z")  # a file along z that was read as if y were up
    extents = np.ptp(sofa.vertices, axis=0)
    np.testing.assert_allclose(np.ptp(lying.vertices, axis=0), extents[[0, 2, 1]], rtol=1e-5)
    assert upright(sofa, "y") is sofa
    with pytest.raises(ValueError, match="up_axis is 'x'; expected y or z"):
        upright(sofa, "x")
    with pytest.raises(ValueError, match="expected positive factors"):
        stretched(sofa, 1, 0, 1)
