"""``llana-gmn train-encoder``: an encoder; the GMN with a decoder and a contrastive loss, or SANE."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Command, process_state, stage_progress

if TYPE_CHECKING:
    from gmn_encoder.training.loop import TrainingResult
    from gmn_encoder.training.recipe import RunRecipe


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
        parser.add_argument("--encoder", choices=("gmn", "sane"), default="gmn", help="kind of encoder (default: gmn)")
        parser.add_argument(
            "--loss", choices=("r", "c", "rc"), help="of a gmn: rendering, contrastive or both (default: the recipe's)"
        )
        parser.add_argument(
            "--config",
            metavar="RECIPE",
            help="YAML file, or one of paper, gpu10, nano, probes, probes_graph, decoder (default: paper), of a sane encoder "
            "sane-paper or sane-small (default: sane-paper)",
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
            help="continue what is in --out (default; NeRFs that changed are refused), or begin anew",
        )
        parser.add_argument(
            "--tracker", action="append", choices=("tensorboard", "wandb"), help="log there too; repeatable"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.locks import LOCK_NAME, output_lock
        from gmn_encoder.training.loop import Reports

        recipe, encoder_training = _chosen(arguments)
        accelerator = _accelerator(arguments, recipe)
        main = accelerator.is_main_process
        lock = output_lock(arguments.out, file=Path(arguments.out, LOCK_NAME), hold=main)
        with lock, stage_progress() as progress:
            reports = Reports(progress=progress, on_validation=_say_validation, on_start=_say_start) if main else None
            run = encoder_training(
                recipe,
                arguments.data,
                out=arguments.out,
                accelerator=accelerator,
                resume=arguments.resume,
                init=arguments.init,
                reports=reports,
            )
            result = run.run()
        accelerator.end_training()
        if main:
            print(_last_line(result, arguments.out), file=sys.stderr)
        return 0


def _chosen(arguments: argparse.Namespace) -> tuple[RunRecipe, Any]:
    """The recipe, and the function that makes its run."""
    if arguments.encoder == "sane":
        from gmn_encoder.training.sane.recipe import load_sane_recipe
        from gmn_encoder.training.sane.task import sane_training

        if arguments.loss:
            raise ValueError(
                "--loss chooses a gmn's losses; a sane encoder has all four, weighed by settings such as rotation_weight"
            )
        return load_sane_recipe(arguments.config, arguments.settings), sane_training
    from gmn_encoder.training.representation.recipe import load_recipe
    from gmn_encoder.training.representation.task import encoder_training

    changes = [*arguments.settings, *([f"loss={arguments.loss}"] if arguments.loss else [])]
    return load_recipe(arguments.config, changes), encoder_training


def _accelerator(arguments: argparse.Namespace, recipe: RunRecipe) -> Any:
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


def _say_start(text: str) -> None:
    print(f"llana-gmn train-encoder: {text}", file=sys.stderr)


def _say_validation(epoch: int, metrics: Mapping[str, float]) -> None:
    text = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if "/" not in name)
    print(f"epoch {epoch}: {text}", flush=True)


def _last_line(result: TrainingResult, out: str) -> str:
    if result.finished:
        return f"done: {result.steps} steps; the best encoder is {Path(out, 'best')}, the last {Path(out, 'last')}"
    return (
        f"stopped after {result.seconds:.0f} s at step {result.step} of {result.steps}, saved in {Path(out, 'last')}; "
        "the same command goes on"
    )
