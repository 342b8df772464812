"""The benchmark of the encoder's training in its tiny form."""

import pytest

from gmn_encoder.training.representation import bench
from gmn_encoder.training.representation.recipe import Recipe


def test_tiny_run_times_every_stage_and_the_whole_step():
    (result,) = bench.bench(**bench.TINY, device="cpu")
    figures = result.figures
    assert set(figures["stages"]) == {
        "data", "teacher", "encoder forward", "decoder forward", "decoder backward", "encoder backward", "optimiser",
    }  # fmt: skip
    assert figures["step"] > 0 and figures["points"] > 0 and figures["hours"] > 0
    assert figures["recipe"]["batch_size"] == 2 and result.variant == "nano"
    assert all(f"| {stage} |" in result.text for stage in figures["stages"])


def test_projection_by_hand():
    figures = {"step": 2.0, "stages": {"data": 0.5, "teacher": 50.0}}
    steps = 250 * 31744 * 2 / 8
    assert bench.projected_hours(Recipe(refresh_epochs=25), figures) == pytest.approx(steps * (2.5 + 50 / 25) / 3600)
    assert bench.projected_hours(Recipe(refresh_epochs=0), figures) == pytest.approx(steps * (2.5 + 50 / 250) / 3600)
