"""``llana-gmn train-encoder``: the GMN encoder, with a decoder and a contrastive loss."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from .base import Command, process_state, progress_bar

if TYPE_CHECKING:
    from gmn_encoder.training.representation.recipe import Recipe
    from gmn_encoder.training.representation.trainer import TrainingResult


class TrainEncoderCommand(Command):
    name = "train-encoder"
    help = "train the encoder on NeRFs of several families; continues where a killed run stopped"
    example = "llana-gmn train-encoder --data data --out encoder --loss rc --config nano epochs=10"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--data",
            required=True,
            metavar="DIR",
            help="<family>/<class>/<id>/, train.txt and val.txt, as fit writes it",
        )
        parser.add_argument("--out", required=True, metavar="DIR", help="best/, last/ and metrics.jsonl go here")
        parser.add_argument(
            "--loss", choices=("r", "c", "rc"), help="rendering, contrastive or both (default: the recipe's)"
        )
        parser.add_argument(
            "--config", metavar="RECIPE", help="YAML file, or one of paper, gpu10, nano (default: paper)"
        )
        parser.add_argument(
            "settings", nargs="*", metavar="KEY=VALUE", help="settings of the recipe, such as epochs=20"
        )
        parser.add_argument(
            "--init", metavar="CHECKPOINT", help="start from its weights: a released .pt file, or a best/ or last/"
        )
        parser.add_argument(
            "--resume",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="continue what is in --out (default), or begin anew",
        )
        parser.add_argument(
            "--tracker", action="append", choices=("tensorboard", "wandb"), help="log there too; repeatable"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.training.representation.recipe import load_recipe
        from gmn_encoder.training.representation.trainer import Reports, Trainer

        changes = [*arguments.settings, *([f"loss={arguments.loss}"] if arguments.loss else [])]
        recipe = load_recipe(arguments.config, changes)
        accelerator = _accelerator(arguments, recipe)
        main = accelerator.is_main_process
        with progress_bar(disable=not main) as bar:
            lines = _Lines(bar) if main else None
            reports = (
                Reports(on_step=lines.step, on_batch=lines.batch, on_validation=lines.validation, on_start=lines.start)
                if lines
                else Reports()
            )
            trainer = Trainer(
                recipe,
                arguments.data,
                out=arguments.out,
                accelerator=accelerator,
                resume=arguments.resume,
                init=arguments.init,
                reports=reports,
            )
            result = trainer.run()
        accelerator.end_training()
        if main:
            print(_last_line(result, arguments.out), file=sys.stderr)
        return 0


def _accelerator(arguments: argparse.Namespace, recipe: Recipe) -> Any:
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    from gmn_encoder.extras import require

    for tracker in arguments.tracker or []:
        require(tracker, "track")
    process_state()  # which sees to it that several processes find each other
    accelerator = Accelerator(
        log_with=arguments.tracker,
        project_dir=arguments.out,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
    )
    if arguments.tracker:
        Path(arguments.out).mkdir(parents=True, exist_ok=True)
        settings = {
            key: value if isinstance(value, str | int | float) else str(value)
            for key, value in recipe.to_dict().items()
        }
        os.environ.setdefault("WANDB_SILENT", "true")
        accelerator.init_trackers("llana-gmn-encoder", config=settings)
    return accelerator


class _Lines:
    """A bar over all steps, and a line on stdout for each validation."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("training", total=None, note="")

    def start(self, text: str) -> None:
        print(f"llana-gmn train-encoder: {text}", file=sys.stderr)

    def step(self, done: int, total: int, note: str) -> None:
        self._bar.update(self._task, completed=done, total=total, note=note)

    def batch(self, done: int, total: int) -> None:
        self._bar.update(self._task, note=f"validating {done} of {total} NeRFs")

    def validation(self, epoch: int, metrics: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if "/" not in name)
        print(f"epoch {epoch}: {text}", flush=True)


def _last_line(result: TrainingResult, out: str) -> str:
    if result.finished:
        return f"done: {result.steps} steps; the best encoder is {Path(out, 'best')}, the last {Path(out, 'last')}"
    return (
        f"stopped after {result.seconds:.0f} s at step {result.step} of {result.steps}, saved in {Path(out, 'last')}; "
        "the same command goes on"
    )
