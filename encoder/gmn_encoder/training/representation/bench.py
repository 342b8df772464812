"""Time and memory of training the encoder at the paper's sizes, and where the time goes.

Random NeRFs of the recipe's families in ball-shaped occupancy grids, made on the spot; each stage is timed apart: loading NeRFs
and rendering the teacher's rays (once in `refresh_epochs`), drawing a batch, encoder and decoder forwards and backwards,
optimiser. A whole step is timed too. The projection is 250 epochs of 31,744 objects, two NeRFs of each an epoch, at that speed.

    python scripts/bench_training.py                           # paper recipe, on the GPU if there is one
    python scripts/bench_training.py --steps 2 samples=2000 points=800
    python scripts/bench_training.py --config gpu10
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ... import benchmarking
from ...datasets import PairedDataset
from ...nerfs.architectures import FAMILY_NAMES
from ...nerfs.files import save_nerf
from ...nerfs.record import Nerf
from ...rendering.camera_files import write_cameras
from ...rendering.cameras import released_cameras, sphere
from ...rendering.occupancy import GRID_NAME, OccupancyGrid, write_occupancy
from ...rendering.voxels import voxel_centers
from .batches import BatchMaker, TrainingBatch
from .model import TrainedModel
from .recipe import Recipe, load_recipe

TINY: dict[str, Any] = {
    "config": "nano",
    "settings": ["batch_size=2", "cached_rays=16", "candidate_rays=400", "rays=8", "samples=64", "points=8"],
    "steps": 1,
}

OBJECTS, EPOCHS = 31744, 250
"""The paper's training set, and how often it is gone through."""


def bench(
    settings: Sequence[str] = (),
    *,
    config: str = "paper",
    steps: int = 5,
    device: torch.device | str | None = None,
) -> Iterator[benchmarking.Result]:
    """Steps of a recipe, stage by stage and whole.

    Args:
        settings: changes of the recipe, ``key=value`` each.
        config: a recipe's file, or the name of one that ships.
        steps: timed steps; one more warms up.
        device: where to train; None for the accelerator if there is one.

    Yields:
        one result.
    """
    device = benchmarking.pick_device(device)
    recipe = load_recipe(config, settings)
    about = benchmarking.about_run(device, config=config)
    figures = measure(recipe, steps=steps, device=device)
    figures |= {"hours": projected_hours(recipe, figures), "recipe": recipe.to_dict()}
    yield benchmarking.Result(
        what="training",
        variant=Path(config).stem,
        title="Training the encoder",
        about=about,
        figures=figures,
        text=_text(recipe, figures),
    )


def measure(recipe: Recipe, *, steps: int, device: torch.device) -> dict[str, Any]:
    """Median seconds of each stage and of a whole step, mean number of points in a step, and peak memory in GiB."""
    times: dict[str, list[float]] = defaultdict(list)
    points = []

    def time(stage: str, run: Callable[[], Any]) -> Any:
        result, seconds = benchmarking.timed(run, device)
        times[stage].append(seconds)
        return result

    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), recipe, objects=(steps + 1) * recipe.batch_size // 2)
        batches = BatchMaker(PairedDataset(folder, recipe.families, split="train"), recipe, device=device)
        model = TrainedModel(recipe).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        benchmarking.reset_peak_memory(device)
        for step in range(steps + 1):
            make = partial(batches.make, 0, step)
            _, cold = benchmarking.timed(make, device)
            batch = time("data", make)
            times["teacher"].append(cold - times["data"][-1])
            asked = batch.rendering
            points.append(len(asked.samples) + len(asked.points) if asked else 0)
            _staged_step(model, optimizer, batch, time)
            time("step", partial(_whole_step, model, optimizer, batch))
    medians = {stage: statistics.median(values[1:]) for stage, values in times.items()}  # the first step warms up
    memory = benchmarking.peak_memory(device)
    return {
        "step": medians.pop("step"),
        "stages": medians,
        "points": statistics.mean(points),
        "memory_gib": None if memory is None else memory / 1024,
    }


def make_data(root: Path, recipe: Recipe, *, objects: int) -> None:
    """A data set of random NeRFs, in the sizes that the recipe names or the paper's.

    A ball of radius 0.3 holds what random weights make of it: about as many samples on a ray as an object has.
    """
    grid, cameras = OccupancyGrid(voxel_centers().norm(dim=-1) < 0.3), released_cameras(sphere(36).camera_to_world)
    names = [f"class/{i:03d}" for i in range(objects)]
    (root / "train.txt").write_text("".join(f"{name}\n" for name in names))
    for family in recipe.families:
        architecture = recipe.architectures.get(family, FAMILY_NAMES[family])
        for i, name in enumerate(names):
            save_nerf(Nerf.random(architecture, seed=i), root / family / name)
            write_occupancy(grid, root / family / name / GRID_NAME)
            write_cameras(cameras, root / family / name / "transforms_train.json")


def projected_hours(recipe: Recipe, figures: dict[str, Any]) -> float:
    """Hours of the paper's training: step, drawing, and the teacher's share, one after the other.

    Threads that work ahead make it less.
    """
    stages = figures["stages"]
    teacher = stages["teacher"] / min(recipe.refresh_epochs or EPOCHS, EPOCHS)
    steps = EPOCHS * OBJECTS * 2 / recipe.batch_size
    return steps * (figures["step"] + stages["data"] + teacher) / 3600


def _staged_step(
    model: TrainedModel, optimizer: Any, batch: TrainingBatch, time: Callable[[str, Callable[[], Any]], Any]
) -> None:
    """A step cut at the embeddings."""
    embeddings = time("encoder forward", lambda: model.embed(batch))
    leaf = embeddings.detach().requires_grad_()
    total = time("decoder forward", lambda: model.losses(leaf, batch).total)
    time("decoder backward", total.backward)
    time("encoder backward", lambda: embeddings.backward(leaf.grad))
    time("optimiser", lambda: (optimizer.step(), optimizer.zero_grad(set_to_none=True)))


def _whole_step(model: TrainedModel, optimizer: Any, batch: TrainingBatch) -> None:
    model(batch).total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _text(recipe: Recipe, figures: dict[str, Any]) -> str:
    rows = [*figures["stages"].items(), ("**whole step (encoder, decoder, optimiser)**", figures["step"])]
    memory = figures["memory_gib"]
    return (
        f"Batch {recipe.batch_size}, encoder {recipe.hidden_dim}/{recipe.embedding_dim}, decoder {recipe.decoder_dim} wide, "
        f"{figures['points']:.0f} points a step, {recipe.precision}.\n\n"
        + benchmarking.markdown_table({"stage": "", "seconds": ".3f"}, rows)
        + (f"\nPeak memory {memory:.1f} GiB. " if memory is not None else "\n")
        + f"{EPOCHS} epochs of {OBJECTS:,} objects at this speed: {figures['hours']:.0f} hours.\n"
    )


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)
