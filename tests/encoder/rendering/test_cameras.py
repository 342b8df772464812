import math

import pytest
import torch

from gmn_encoder.rendering.camera_files import read_cameras
from gmn_encoder.rendering.cameras import (
    Cameras,
    Rays,
    default_view,
    look_at,
    orbit_pose,
    released_cameras,
    sphere,
    turntable,
)

from .conftest import nerf_directory


def rays_at(cameras, view, pixels):
    rows, columns = pixels.long().T
    return cameras.rays(torch.full_like(rows, view), rows, columns)


def test_default_view_and_frames_have_the_golden_rays(golden_rays):
    frames = read_cameras(nerf_directory("mlp"))
    cases = {"default_view": (default_view(), 0), "frame0": (frames, 0), "frame7": (frames, 7)}
    for name, (cameras, view) in cases.items():
        rays = rays_at(cameras, view, golden_rays["pixels_row_col"])
        torch.testing.assert_close(rays.origins, golden_rays[f"{name}.origins"], rtol=0, atol=1e-7)
        torch.testing.assert_close(rays.directions, golden_rays[f"{name}.viewdirs"], rtol=0, atol=2e-7)
    assert math.isclose(float(frames.focal[0, 0]), float(golden_rays["focal"]), rel_tol=1e-7)


def test_rays_of_a_camera_worked_out_by_hand():
    # At the origin, looking along -z, focal length 2 pixels: the pixel in row 0, column 3 of a 4x2 image is 1.5 to the
    # right and 0.5 up of the centre, so it looks along (0.75, 0.25, -1).
    cameras = Cameras(torch.eye(4)[None], torch.tensor([[2.0, 2.0]]), torch.tensor([[2.0, 1.0]]), 4, 2)
    zero = torch.tensor([0])
    rays = cameras.rays(zero, zero, torch.tensor([3]))
    expected = torch.tensor([0.75, 0.25, -1.0])
    torch.testing.assert_close(rays.directions[0], expected / expected.norm())
    torch.testing.assert_close(cameras.image_rays(0).directions[3], rays.directions[0])
    assert len(cameras.image_rays(0)) == 8


@pytest.mark.parametrize("cameras", [turntable(5), turntable(3, elevation=-80.0), sphere(36), sphere(1)])
def test_generated_cameras_look_at_the_origin_from_their_distance(cameras):
    centre = torch.full((len(cameras),), cameras.width // 2)
    rays = cameras.rays(torch.arange(len(cameras)), centre, centre)
    torch.testing.assert_close(rays.origins.norm(dim=-1), torch.full((len(cameras),), 1.5))
    towards = -rays.origins / 1.5
    assert float((rays.directions * towards).sum(dim=-1).min()) > 0.99999  # half a pixel off the axis


def test_turntable_starts_at_the_default_view_and_goes_round():
    table = turntable(4)
    torch.testing.assert_close(table.camera_to_world[0], default_view().camera_to_world[0])
    azimuth = torch.rad2deg(torch.atan2(table.camera_to_world[:, 0, 3], table.camera_to_world[:, 1, 3])) % 360
    torch.testing.assert_close(azimuth, torch.tensor([90.0, 180.0, 270.0, 0.0]), rtol=0, atol=1e-3)


def test_sphere_views_are_spread_evenly():
    positions = sphere(36).camera_to_world[:, :3, 3] / 1.5
    angles = torch.rad2deg(torch.acos((positions @ positions.T).clamp(-1, 1))) + 360 * torch.eye(36)
    # 36 caps of equal area have a radius of 19.2 degrees; nearest neighbours are about twice that apart.
    assert float(angles.amin(dim=1).min()) > 25 and float(angles.amin(dim=1).max()) < 42
    assert float(positions.mean(dim=0).norm()) < 0.05


def test_seeds_turn_and_shift_the_sphere():
    cameras = sphere(36, seed=3)
    poses, again = cameras.camera_to_world, sphere(36, seed=3).camera_to_world
    assert torch.equal(poses, again) and not torch.equal(poses, sphere(36, seed=4).camera_to_world)
    assert bool((poses[:, 2, 1] > 0).all())  # upright
    places = poses[:, :3, 3] / 1.5
    angles = torch.rad2deg(torch.acos((places @ places.T).clamp(-1, 1))) + 360 * torch.eye(36)
    assert float(angles.amin(dim=1).min()) > 15 and float(places.mean(dim=0).abs().max()) < 0.06


def test_cameras_look_straight_up_and_down_too():
    poses = look_at(torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0], [1.5, 0.0, 0.0]]))
    torch.testing.assert_close(poses[:, :3, 2], poses[:, :3, 3] / poses[:, :3, 3].norm(dim=1, keepdim=True))
    released_cameras(poses)  # refuses what is not rigid
    assert poses[2, :3, :3].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]  # from +x: right is +y, up is +z


def test_resized_cameras_see_the_same():
    small = default_view().resized(112, 112)
    # The corner shared by four pixels of the large image is the middle of one pixel of the small one.
    rays, large = small.image_rays(0), default_view().image_rays(0).directions.view(112, 2, 112, 2, 3)
    torch.testing.assert_close(rays.directions.view(112, 112, 3), large.mean(dim=(1, 3)), rtol=0, atol=1e-4)


def test_random_rays_belong_to_their_pixels():
    cameras = turntable(3, size=10)
    rays, flat = cameras.random_rays(50, generator=torch.Generator().manual_seed(1))
    images = torch.stack([cameras.image_rays(view).directions for view in range(3)]).reshape(-1, 3)
    torch.testing.assert_close(rays.directions, images[flat])
    assert len(flat.unique()) > 30 and int(flat.max()) < 300


def test_parts_of_rays_and_cameras():
    rays = Rays(torch.randn(5, 3), torch.randn(5, 3), torch.arange(5))
    assert rays[1:3].nerf_index.tolist() == [1, 2] and len(rays[rays.nerf_index > 2]) == 2
    assert rays.to(torch.float64).origins.dtype == torch.float64
    cameras = released_cameras(torch.stack([orbit_pose(t, 0) for t in (0, 90, 180)]), image_names=("a", "b", "c"))
    assert cameras[1:].image_names == ("b", "c") and cameras[[2]].image_names == ("c",)
    torch.testing.assert_close(cameras[[2, 0]].camera_to_world[1], cameras.camera_to_world[0])


def pose(**changes):
    matrix = torch.eye(4)
    for entry, value in changes.items():
        matrix[int(entry[1]), int(entry[2])] = value
    return matrix[None]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (pose(m00=1.5), "not rigid"),
        (pose(m01=0.2), "not rigid"),
        (pose(m00=-1.0), "mirrors"),
        (pose(m03=math.nan), "NaN"),
        (pose(m30=1.0), "last row"),
    ],
)
def test_matrices_that_are_not_rigid_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        released_cameras(matrix)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"camera_to_world has shape \[1, 3, 4\]"):
        released_cameras(torch.eye(4)[None, :3])
    with pytest.raises(ValueError, match="nerf_index"):
        Rays(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="origins"):
        Rays(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="focal"):
        Cameras(torch.eye(4)[None], torch.zeros(1, 2), torch.zeros(1, 2), 4, 4)
    with pytest.raises(ValueError, match="0 views"):
        turntable(0)
