"""What the rendering tests share: golden data, analytic objects, and the march as the released code walks it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder.rendering.cameras import Rays, default_view, sphere
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.voxels import voxel_centers

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
NERF_DIRECTORY = "02691156/eee65f53e9421ce50211670eae679f02"


@pytest.fixture(scope="session")
def golden_rays():
    return load_file(GOLDEN / "rays.safetensors")


@pytest.fixture(scope="session")
def golden_render():
    """Oracle of the HASH NeRF: density * 8, background (1, 0.5, 0.25), default view, this occupancy."""
    return load_file(GOLDEN / "render.safetensors")


@pytest.fixture(scope="session")
def golden_grid(golden_render):
    binary = torch.zeros(96**3, dtype=torch.bool)
    binary[golden_render["occupancy_flat_indices"].long()] = True
    return OccupancyGrid(binary.view(96, 96, 96))


@pytest.fixture(scope="session")
def golden_view_rays(golden_render):
    rows, columns = golden_render["pixels_row_col"].long().T
    return default_view().rays(torch.zeros_like(rows), rows, columns)


def nerf_directory(family):
    return GOLDEN / "nerf" / "shapenet" / family / NERF_DIRECTORY


def some_rays(count, seed=0):
    """Rays of pixels all around the object."""
    return sphere(36).random_rays(count, generator=torch.Generator().manual_seed(seed))[0]


def some_grid(kind, resolution=96, seed=0):
    """A ball, its shell, or voxels at random."""
    distance = voxel_centers(resolution).norm(dim=-1)
    if kind == "ball":
        return OccupancyGrid(distance < 0.4)
    if kind == "shell":
        return OccupancyGrid((distance - 0.4).abs() < 0.02)
    share = {"noise": 0.5, "dust": 0.001}[kind]
    generator = torch.Generator().manual_seed(seed)
    return OccupancyGrid(torch.rand((resolution,) * 3, generator=generator) < share)


def ball_field(xyz, nerf_index=None):
    """A soft coloured ball of radius 0.4, in the dtype of the coordinates."""
    rgb = (0.5 + 0.5 * torch.sin(7 * xyz + xyz.new_tensor([0.0, 1.0, 2.0]))).clamp(0, 1)
    return rgb, 40 * torch.sigmoid((0.4 - xyz.norm(dim=-1, keepdim=True)) * 60)


def slow_march(origin, direction, t_near, t_far, binary, step):
    """docs/released_format.md#ray-marching for one ray, statement by statement in float32: a list of ``(t_start, t_end)``."""
    f = np.float32
    resolution, step, half = binary.shape[0], f(step), f(step) * f(0.5)
    low, high = f(-0.7), f(0.7)
    found = []
    t0 = f(t_near)
    t1 = t0 + step
    middle = (t0 + t1) * f(0.5)
    while middle < t_far:
        u = ((origin + middle * direction) - low) / (high - low)
        v = u * f(resolution)
        voxel = np.clip(v, 0, resolution - 1).astype(int)
        if ((u > 0) & (u < 1)).all() and binary[tuple(voxel)]:
            found.append((t0, t1))
            t0, t1 = t1, t1 + step
            middle = (t0 + t1) * f(0.5)
            continue
        with np.errstate(all="ignore"):
            border = np.floor(v + f(0.5) + f(0.5) * np.sign(direction))
            distance = np.fmin.reduce((border - v) / direction / f(resolution) * f(1.4))
        target = min(middle + max(distance, f(0)), t_far)
        middle = middle + step
        while middle < target:
            middle = middle + step
        t0, t1 = middle - half, middle + half
    return found


def join(*rays):
    """Several sets of rays as one, each belonging to a NeRF of its own."""
    index = torch.cat([torch.full((len(part),), number) for number, part in enumerate(rays)])
    return Rays(torch.cat([part.origins for part in rays]), torch.cat([part.directions for part in rays]), index)
