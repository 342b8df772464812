"""Views: geometry of the cameras, opacity against areas known by hand, the two casters against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gmn_encoder.extras import is_installed, require
from gmn_encoder.objects import Mesh, ViewSettings, generate, render_mesh, render_views
from gmn_encoder.objects.casting import PixelGrid, make_caster
from gmn_encoder.objects.views import brightness, sample_texture
from gmn_encoder.rendering.cameras import RELEASED_ANGLE_X, focal_from_angle, look_at, released_cameras, sphere

CASTERS = ["torch", *(["embree"] if is_installed("embreex") else [])]


def make_mesh(triangles, colours=(255, 255, 255, 255), *, uv=None, texture=None) -> Mesh:
    corners = np.asarray(triangles, np.float32)
    n = len(corners)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * n, dtype=np.int32).reshape(-1, 3),
        normals=np.repeat(normals[:, None], 3, axis=1),
        colours=np.broadcast_to(np.asarray(colours, np.uint8).reshape(-1, 1, 4), (n, 3, 4)).copy(),
        uv=np.zeros((n, 3, 2), np.float32) if uv is None else np.asarray(uv, np.float32),
        texture=np.full(n, -1 if texture is None else 0, np.int16),
        textures=() if texture is None else (np.asarray(texture, np.uint8),),
    )


def square(z: float, half: float):
    a, b, c, d = (-half, -half, z), (half, -half, z), (half, half, z), (-half, half, z)
    return [(a, b, c), (a, c, d)]


def cameras_at(*positions, size):
    return released_cameras(look_at(torch.tensor(positions)), size=size)


def above(size):
    return cameras_at((0.0, 0.0, 1.5), size=size)


def focal_length(size):
    return focal_from_angle(RELEASED_ANGLE_X, size)


def test_grid_rays_follow_the_format():
    """docs/released_format.md#camera-model at 224 pixels: ((x - 112 + 0.5) / f, -(y - 112 + 0.5) / f, -1)."""
    focal = focal_length(224)
    assert focal == pytest.approx(0.5 * 224 / math.tan(0.5 * 0.8575560450553894))
    x, y = np.array([0.0, 112.0, 223.0]), np.array([10.0, 111.0])
    origin, rays = PixelGrid(released_cameras(torch.eye(4)[None]), 0, x + 0.5, y + 0.5).rays(None)
    columns, rows = np.tile(x, 2), np.repeat(y, 3)
    expected = np.stack([(columns - 112 + 0.5) / focal, -(rows - 112 + 0.5) / focal, -np.ones(6)], -1)
    np.testing.assert_allclose(rays, expected, atol=1e-6)
    np.testing.assert_allclose(origin, 0)


@pytest.mark.parametrize("caster", CASTERS)
def test_opacity_is_the_covered_area(caster):
    # A slanted triangle at depth 1.5: area in pixels = area * (f / 1.5)^2 = |(-0.5, 0.2) x (-0.37, -0.3)| / 2 * (f / 1.5)^2.
    image = render_views(make_mesh([[(0.3, 0.05, 0), (-0.2, 0.25, 0), (-0.07, -0.25, 0)]]), above(100), caster=caster)[
        0
    ]
    area = (0.5 * 0.3 + 0.2 * 0.37) / 2 * (focal_length(100) / 1.5) ** 2
    assert image[..., 3].sum() / 255 == pytest.approx(area, rel=0.004)
    assert image[50, 50, 3] == 255 and image[0, 0].tolist() == [0, 0, 0, 0]
    # A square of pixels 10..90 exactly: its half is 40 / f * 1.5; every opacity is full or nothing.
    exact = make_mesh(square(0.0, 40 / focal_length(100) * 1.5))
    alpha = render_views(exact, above(100), caster=caster)[0, ..., 3]
    assert (alpha[10:90, 10:90] == 255).all() and alpha.sum() == 255 * 80 * 80
    # Shifted by a quarter of a pixel, the columns at both ends hold a quarter and three quarters.
    shifted = exact.vertices + np.array([0.25 / focal_length(100) * 1.5, 0, 0], np.float32)
    moved = make_mesh(shifted.reshape(-1, 3, 3))
    alpha = render_views(moved, above(100), caster=caster)[0, ..., 3]
    assert alpha[50, 10] == round(0.75 * 255) and alpha[50, 90] == round(0.25 * 255)


@pytest.mark.parametrize("caster", CASTERS)
def test_nearest_surface_wins_and_blend_lets_through(caster):
    near, far = square(0.2, 0.2), square(-0.2, 0.2)
    light = brightness(np.array([0.0, 0.0, 1.0])).item()
    opaque = make_mesh([*far, *near], [(0, 255, 0, 255)] * 2 + [(255, 0, 0, 255)] * 2)
    pixel = render_views(opaque, above(64), caster=caster)[0, 32, 32]
    assert pixel.tolist() == [round(255 * light), 0, 0, 255]
    # Opacity 51 / 255 = 0.2 in front: 0.2 red + 0.8 green.
    glass = make_mesh([*far, *near], [(0, 255, 0, 255)] * 2 + [(255, 0, 0, 51)] * 2)
    pixel = render_views(glass, above(64), caster=caster)[0, 32, 32].astype(int)
    np.testing.assert_allclose(pixel, [0.2 * 255 * light, 0.8 * 255 * light, 0, 255], atol=1)
    alone = make_mesh(near, [(255, 0, 0, 51)] * 2)
    pixel = render_views(alone, above(64), caster=caster)[0, 32, 32]
    assert pixel.tolist() == [round(255 * light), 0, 0, 51]  # straight colour, not multiplied by opacity


@pytest.mark.parametrize("caster", CASTERS)
def test_cut_out_texture_is_a_hole(caster):
    texture = np.zeros((1, 2, 4), np.uint8)
    texture[0, 0] = 255  # left half opaque white, right half nothing
    uv = [[(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1), (0, 1)]]
    mesh = make_mesh(square(0.0, 0.4), uv=uv, texture=np.repeat(texture, 8, axis=1))
    alpha = render_views(mesh, above(64), caster=caster)[0, 32, :, 3]
    middle = np.nonzero(alpha == 255)[0]
    assert middle.max() < 33 and len(middle) > 12
    assert (alpha[36:46] == 0).all()


@pytest.mark.skipif(len(CASTERS) == 1, reason="embreex is not installed")
@pytest.mark.parametrize("name", ["chair", "car", "lamp"])
def test_casters_agree(name):
    mesh = generate(name, 5).mesh
    cameras = sphere(2, size=48, seed=1)
    ours, embree = (render_views(mesh, cameras, caster=caster).astype(int) for caster in ("torch", "embree"))
    difference = np.abs(ours - embree).max(axis=-1)
    assert (difference > 2).mean() < 0.01  # rays through edges may fall on either side
    grid = PixelGrid(cameras, 0, np.arange(48) + 0.5, np.arange(48) + 0.5)
    a, b = make_caster(mesh, "torch").first(grid), make_caster(mesh, "embree").first(grid)
    same = (a.face == b.face) & (a.face >= 0)
    assert same.sum() > 0.97 * (b.face >= 0).sum() > 100
    np.testing.assert_allclose(a.depth[same], b.depth[same], atol=1e-4)
    np.testing.assert_allclose(a.u[same], b.u[same], atol=2e-2)


def test_light_does_not_depend_on_the_camera():
    """The middle of a face has one colour from wherever it is seen."""
    mesh = make_mesh(square(0.0, 0.3), (200, 100, 50, 255))
    cameras = cameras_at((0.0, 0.0, 1.5), (0.75, 0.15, 1.29), (-0.45, 0.6, 1.299), size=65)
    images = render_views(mesh, cameras, caster="torch")
    assert (images[:, 32, 32] == images[0, 32, 32]).all()


def test_both_windings_look_alike():
    up = make_mesh(square(0.0, 0.3), (200, 100, 50, 255))
    down = make_mesh([(a, c, b) for a, b, c in square(0.0, 0.3)], (200, 100, 50, 255))
    first, second = (render_views(mesh, above(32), caster="torch") for mesh in (up, down))
    assert (first == second).all()


def test_texture_sampling_by_hand():
    texture = np.zeros((2, 2, 4), np.uint8)
    texture[0, 0] = 200  # upper left
    uv = np.array([[0.25, 0.75], [0.5, 0.75], [0.5, 0.5], [1.25, -0.25], [0.75, 0.25]])
    values = sample_texture(texture, uv)[:, 0] * 255
    np.testing.assert_allclose(values, [200, 100, 50, 200, 0], atol=1e-3)  # texel, between two, between four, repeated


def test_render_mesh_defaults_and_refusals():
    thing = generate("table", 1)
    views = render_mesh(thing.mesh, ViewSettings(n_views=3, size=32, seed=2), caster=CASTERS[-1])
    assert views.images.shape == (3, 32, 32, 4) and views.images.dtype == np.uint8
    assert torch.equal(views.cameras.camera_to_world, sphere(3, seed=2).camera_to_world)
    assert (views.cameras.width, views.cameras.height) == (32, 32)
    border = np.concatenate([views.images[:, [0, -1], :, 3].ravel(), views.images[:, :, [0, -1], 3].ravel()])
    assert border.max() < 255  # the object is inside the picture
    with pytest.raises(ValueError, match="n_views is 0; expected an integer of at least 1"):
        ViewSettings(n_views=0)
    with pytest.raises(ValueError, match="caster is 'gl'"):
        make_caster(thing.mesh, "gl")  # type: ignore[arg-type]
    import dataclasses

    with pytest.raises(ValueError, match="call normalised"):
        render_mesh(dataclasses.replace(thing.mesh, vertices=thing.mesh.vertices * 2))


def test_objects_fill_the_view():
    """An object of the sphere's extent touches both borders when seen broadside, and never crosses them."""
    thing = generate("rifle", 3)
    alpha = render_views(thing.mesh, cameras_at((1.5, 0.0, 0.0), size=224), caster=CASTERS[-1])[0, ..., 3]
    columns = np.nonzero(alpha.any(axis=0))[0]
    assert np.ptp(columns) > 0.85 * 224


def test_missing_extra_is_named():
    with pytest.raises(ImportError, match=r"nowhere_at_all is needed here.*pip install 'llana-gmn\[objects\]'"):
        require("nowhere_at_all.module", "objects")
