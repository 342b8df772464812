"""A data set of small random NeRFs, made in a second: six objects for training, three held out, in three families."""

import pytest
import torch

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.rendering.camera_files import write_cameras
from gmn_encoder.rendering.cameras import released_cameras, sphere
from gmn_encoder.rendering.occupancy import GRID_NAME, OccupancyGrid, write_occupancy
from gmn_encoder.rendering.voxels import voxel_centers
from gmn_encoder.training.representation.recipe import Recipe

ARCHITECTURES = {
    "mlp": {"family": "mlp", "hidden_layers": 1, "hidden_dim": 16, "frequencies": 4},
    "triplane": {
        "family": "triplane",
        "hidden_layers": 1,
        "hidden_dim": 16,
        "frequencies": 2,
        "resolution": 4,
        "channels": 4,
    },
    "hash": {
        "family": "hash",
        "hidden_layers": 1,
        "hidden_dim": 16,
        "levels": 2,
        "log2_table_size": 5,
        "base_resolution": 4,
        "max_resolution": 8,
    },
}
OBJECTS = {"train": 6, "val": 3}
TINY = Recipe(
    architectures=ARCHITECTURES,
    hidden_dim=8,
    embedding_dim=16,
    num_layers=2,
    decoder_dim=16,
    decoder_frequencies=2,
    epochs=2,
    batch_size=4,
    learning_rate=3e-3,
    rays=8,
    samples=200,
    points=8,
    steps_per_diagonal=64,
    cached_rays=16,
    candidate_rays=400,
    refresh_epochs=2,
    validate_every=1,
    workers=0,
    cache_gib=0.1,
)


def cameras():
    return released_cameras(sphere(4).camera_to_world, size=16)


def ball(radius):
    return OccupancyGrid(voxel_centers(24).norm(dim=-1) < radius)


def dense(sizes, seed):
    """A random NeRF that is opaque here and there: logits ten times as large."""
    nerf = Nerf.random(sizes, seed=seed)
    tensors = dict(nerf.tensors)
    tensors["mlp_base.params"] = tensors["mlp_base.params"] * 10
    return Nerf(nerf.architecture, tensors)


def write_set(root, families=ARCHITECTURES, objects=OBJECTS):
    number = 0
    for split, count in objects.items():
        names = [f"class{i % 2}/thing{number + i}" for i in range(count)]
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for i, name in enumerate(names):
            for family, sizes in families.items():
                directory = root / family / name
                save_nerf(dense(sizes, number + i), directory)
                write_occupancy(ball(0.25 + 0.03 * i), directory / GRID_NAME)
                write_cameras(cameras(), directory / "transforms_train.json")
        number += count
    return root


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def nerf_set(tmp_path_factory):
    """Root of the data set; do not change it."""
    return write_set(tmp_path_factory.mktemp("nerfs"))


@pytest.fixture
def tiny() -> Recipe:
    return TINY
