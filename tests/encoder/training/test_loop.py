"""The loop without an encoder: any task with losses, metrics and a state trains, stops and goes on."""

import json
from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator

from gmn_encoder.files import read_tensors
from gmn_encoder.seeds import generator_for
from gmn_encoder.training.loop import Reports, TrainingLoop
from gmn_encoder.training.recipe import RunRecipe


@dataclass
class Error:
    total: torch.Tensor

    def parts(self):
        return {"squared": self.total}


class Slope(torch.nn.Linear):
    def forward(self, x):
        return Error((super().forward(x) - 2 * x).square().mean())


class Line:
    """Learns y = 2 x from five random batches an epoch."""

    steps_per_epoch, data_digest, best_metric, lower_is_better = 5, "line", "error", True

    def __init__(self):
        self.model = Slope(1, 1, bias=False)

    def parameter_groups(self):
        return [{"params": list(self.model.parameters()), "lr": 0.5}]

    def batches(self, epoch, *, first=0):
        for step in range(first, self.steps_per_epoch):
            yield torch.randn(8, 1, generator=generator_for("line", epoch, step))

    def validate(self, progress):
        progress("validating", 1, 1)
        return {"error": abs(self.model.weight.item() - 2)}

    def state(self):
        return {"slope": self.model.state_dict()}

    def load_state(self, content):
        self.model.load_state_dict(content["slope"])

    def begin(self):
        torch.nn.init.zeros_(self.model.weight)
        return "starting from zero"

    def save(self, directory):
        (directory / "slope.txt").write_text(str(self.model.weight.item()))


RECIPE = RunRecipe(epochs=4, learning_rate=0.5, validate_every=1)


def train(out, **changes):
    said = []
    reports = Reports(progress=lambda *step: said.append(step), on_start=said.append)
    loop = TrainingLoop(Line(), RECIPE.changed(**changes), out=out, accelerator=Accelerator(cpu=True), reports=reports)
    return loop.run(), said


def test_it_learns_and_says_so(tmp_path):
    result, said = train(tmp_path)
    assert result.finished and result.step == result.steps == 20
    assert result.metrics["error"] < 1  # of 2 at the start
    assert said[0] == "starting from zero"
    assert said[1][0].startswith("training: loss ") and said[1][1:] == (1, 20)
    assert ("validating", 1, 1) in said
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    best = min(line["error"] for line in lines)
    assert abs(float((tmp_path / "best" / "slope.txt").read_text()) - 2) == pytest.approx(best)
    assert read_tensors(tmp_path / "last" / "trainer.pth")[0]["best_error"] == pytest.approx(best)


@pytest.mark.same_bits
def test_it_goes_on_where_it_stopped(tmp_path):
    train(tmp_path / "whole")
    assert not train(tmp_path / "parts", max_seconds=1e-9)[0].finished
    _, said = train(tmp_path / "parts")
    assert said[0] == "continuing at step 1 of 20"
    whole, parts = (read_tensors(tmp_path / name / "last" / "trainer.pth")[0] for name in ("whole", "parts"))
    assert torch.equal(whole["slope"]["weight"], parts["slope"]["weight"])
    with pytest.raises(ValueError, match=r"trained with epochs=4, and now epochs=5 is asked for"):
        train(tmp_path / "parts", epochs=5)
