"""One small procedural object, its views taken once."""

import pytest

from gmn_encoder.fitting.posed_images import PosedImages
from gmn_encoder.fitting.presets import FitSettings
from gmn_encoder.fitting.sources import from_mesh
from gmn_encoder.objects import ViewSettings, generate

TINY = FitSettings(
    iterations=12, samples=512, views=8, size=32, steps_per_diagonal=128, warmup=4, refine_every=6, empty_points=32
)


def _posed(name: str, seed: int) -> PosedImages:
    made = generate(name, seed)
    views = ViewSettings(n_views=8, size=32)
    return from_mesh(made.mesh, made.class_id, made.object_id, source="test", settings=views, procedural=made)


@pytest.fixture(scope="session")
def posed() -> PosedImages:
    return _posed("chair", 1)


@pytest.fixture(scope="session")
def other_posed() -> PosedImages:
    return _posed("car", 2)


@pytest.fixture
def tiny() -> FitSettings:
    return TINY
