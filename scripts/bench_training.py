"""Time and memory of training the encoder at the paper's sizes, and where the time goes.

Random NeRFs of the three families in ball-shaped occupancy grids, made on the spot; each stage is timed apart: loading NeRFs and
rendering the teacher's rays (once in `refresh_epochs`), drawing a batch, encoder and decoder forwards and backwards, optimiser. A
whole step is timed too. The projection is 250 epochs of 31,744 objects, two NeRFs of each an epoch, at the measured speed.
Results go to benchmarks/results/ as JSON and Markdown.

    python scripts/bench_training.py                           # paper recipe, on the GPU if there is one
    python scripts/bench_training.py --steps 2 samples=2000 points=800
    python scripts/bench_training.py --config gpu10
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.rendering.camera_files import write_cameras
from gmn_encoder.rendering.cameras import released_cameras, sphere
from gmn_encoder.rendering.occupancy import GRID_NAME, OccupancyGrid, write_occupancy
from gmn_encoder.rendering.voxels import voxel_centers
from gmn_encoder.training.representation.batches import BatchMaker
from gmn_encoder.training.representation.model import TrainedModel
from gmn_encoder.training.representation.recipe import load_recipe

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
OBJECTS, PAPER_EPOCHS = 31744, 250
STAGES = ("teacher", "data", "encoder forward", "decoder forward", "decoder backward", "encoder backward", "optimiser")


def make_set(root: Path, objects: int) -> None:
    """A ball of radius 0.3 holds what random weights make of it: about as many samples on a ray as an object has."""
    grid, cameras = OccupancyGrid(voxel_centers().norm(dim=-1) < 0.3), released_cameras(sphere(36).camera_to_world)
    names = [f"class/{i:03d}" for i in range(objects)]
    (root / "train.txt").write_text("".join(f"{name}\n" for name in names))
    for i, name in enumerate(names):
        for family, architecture in FAMILY_NAMES.items():
            save_nerf(Nerf.random(architecture, seed=i), root / family / name)
            write_occupancy(grid, root / family / name / GRID_NAME)
            write_cameras(cameras, root / family / name / "transforms_train.json")


class Clock:
    """Seconds of each stage, one list a stage."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, run: Callable[[], Any]) -> Any:
        self._wait()
        start = time.perf_counter()
        result = run()
        self._wait()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def staged_step(model: TrainedModel, optimizer: Any, batch: Any, clock: Clock) -> None:
    """A step cut at the embeddings."""
    embeddings = clock.time("encoder forward", lambda: model.embed(batch))
    leaf = embeddings.detach().requires_grad_()

    def losses() -> torch.Tensor:
        total = model.render(leaf, batch.rendering).total
        return total if model.siglip is None else total + 0.02 * model.siglip(leaf[0::2], leaf[1::2])

    total = clock.time("decoder forward", losses)
    clock.time("decoder backward", total.backward)
    clock.time("encoder backward", lambda: embeddings.backward(leaf.grad))
    clock.time("optimiser", lambda: (optimizer.step(), optimizer.zero_grad(set_to_none=True)))


def whole_step(model: TrainedModel, optimizer: Any, batch: Any) -> None:
    model(batch).total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(arguments.device)
    recipe = load_recipe(arguments.config, arguments.settings)
    with tempfile.TemporaryDirectory() as folder:
        steps = arguments.steps + 1
        make_set(Path(folder), steps * recipe.batch_size // 2)
        batches = BatchMaker(PairedDataset(folder, recipe.families, split="train"), recipe, device=device)
        model = TrainedModel(recipe).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        clock, whole, points = Clock(device), Clock(device), []
        for step in range(steps):
            cold = Clock(device)
            cold.time("make", lambda step=step: batches.make(0, step))
            batch = clock.time("data", lambda step=step: batches.make(0, step))
            clock.seconds.setdefault("teacher", []).append(cold.seconds["make"][0] - clock.seconds["data"][-1])
            points.append(len(batch.rendering.samples) + len(batch.lights.points))
            staged_step(model, optimizer, batch, clock)
            if device.type == "cuda" and step == 0:
                torch.cuda.reset_peak_memory_stats()
            whole.time("step", lambda batch=batch: whole_step(model, optimizer, batch))
    stages = {name: statistics.median(clock.seconds[name][1:]) for name in STAGES}  # the first step warms up
    return {
        "stages": stages,
        "step": statistics.median(whole.seconds["step"][1:]),
        "points": statistics.mean(points),
        "memory_gib": memory(device),
        "recipe": recipe.to_dict(),
    }


def memory(device: torch.device) -> float:
    """Peak: of the GPU's allocations, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def projected_hours(result: dict[str, Any]) -> float:
    """Step, drawing, and the teacher's share, one after the other; threads that work ahead make it less."""
    recipe, stages = result["recipe"], result["stages"]
    teacher = stages["teacher"] / min(recipe["refresh_epochs"] or PAPER_EPOCHS, PAPER_EPOCHS)
    steps = PAPER_EPOCHS * OBJECTS * 2 / recipe["batch_size"]
    return steps * (result["step"] + stages["data"] + teacher) / 3600


def markdown(record: dict[str, Any]) -> str:
    result = record["result"]
    recipe = result["recipe"]
    lines = [
        f"{record['device']}, {record['threads']} CPU threads, load {record['load']:.1f}, torch {record['torch']}, "
        f"{record['date']}, commit {record['commit']}",
        "",
        f"Batch {recipe['batch_size']}, encoder {recipe['hidden_dim']}/{recipe['embedding_dim']}, decoder "
        f"{recipe['decoder_dim']} wide, {result['points']:.0f} points a step, {recipe['precision']}.",
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:.3f} |" for name, seconds in result["stages"].items()),
        f"| **step (encoder, decoder, optimiser)** | **{result['step']:.3f}** |",
        "",
        f"Peak memory {result['memory_gib']:.1f} GiB. 250 epochs of 31,744 objects at this speed: {record['hours']:.0f} hours.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of training the encoder.")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the recipe")
    parser.add_argument("--config", default="paper", help="recipe (default: paper)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps (default: 5)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--out", help="path without extension (default: benchmarks/results/training-DATE-DEVICE)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    device = torch.device(arguments.device)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "commit": commit or "unknown",
        "result": result,
        "hours": projected_hours(result),
    }
    base = Path(arguments.out or RESULTS / f"training-{record['date']}-{arguments.config}-{device.type}")
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_name(base.name + ".json").write_text(json.dumps(record, indent=2) + "\n")
    base.with_name(base.name + ".md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
