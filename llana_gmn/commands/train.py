"""``llana-gmn train``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Command, stage_progress

if TYPE_CHECKING:
    from gmn_encoder.progress import Progress


class Train(Command):
    name = "train"
    help = (
        "train the language model: the projector (stage 1), then LoRA or everything (stage 2); continues after a kill"
    )
    example = "llana-gmn train --stage 1 --config scripts/recipes/stage1.yaml model=llana-gmn-7b data=ShapeNeRF-Text output=s1"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that win over the recipe's")
        parser.add_argument("--stage", type=int, choices=(1, 2), help="what to train (default: as the recipe says)")
        parser.add_argument("--config", metavar="FILE", help="a recipe, such as those in scripts/recipes")
        parser.add_argument(
            "--strict",
            action="store_true",
            help="leave out dialogues that are unusual or too long; without it they are used as LLaNA does",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show the plan (what learns, steps, tokens, memory) and stop"
        )
        parser.add_argument(
            "--resume",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="continue what the output directory holds (default; other data or another model are refused), or begin anew",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.locks import LOCK_NAME, output_lock

        from ..training.processes import is_main_process
        from ..training.recipe import read_recipe

        # Of libraries about each other: names that they renamed.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch|transformers|peft|accelerate|deepspeed")
        recipe = read_recipe(
            arguments.config, arguments.settings, stage=arguments.stage, strict=arguments.strict or None
        )
        hold = bool(recipe.output) and not arguments.dry_run and is_main_process()
        lock = output_lock(recipe.output, file=Path(recipe.output, LOCK_NAME), hold=hold)
        with lock, stage_progress() as progress:
            return _train(recipe, arguments, progress)


def _train(recipe: Any, arguments: argparse.Namespace, progress: Progress) -> int:
    from ..training.inputs import check_same_inputs, run_inputs
    from ..training.processes import is_main_process
    from ..training.trainer import TrainingRun, finished

    main = is_main_process()
    if arguments.resume and recipe.output and not arguments.dry_run and finished(recipe):
        if main:
            if note := check_same_inputs(recipe, run_inputs(recipe)):
                print(note, file=sys.stderr)
            print(f"{recipe.output}: finished before; --no-resume begins anew", file=sys.stderr)
        return 0
    run = TrainingRun(recipe, resume=arguments.resume, progress=progress, report=_print if main else None)
    if main:
        print(run.plan.to_text(), flush=True)
    if arguments.dry_run:
        return 0
    report = run.train()
    if main:
        held_out = f", held out {report.eval_loss:.4f}" if report.eval_loss is not None else ""
        print(
            f"{report.output}: {report.steps} steps in {report.seconds:.0f} s, {report.samples_per_second:.1f} samples/s, "
            f"loss {report.loss or float('nan'):.4f}{held_out}",
            file=sys.stderr,
        )
    return 0


def _print(logs: Mapping[str, Any]) -> None:
    shown = {key: logs[key] for key in ("loss", "eval_loss", "learning_rate", "grad_norm") if key in logs}
    if shown:
        print(
            f"step {logs['step']}: " + ", ".join(f"{key} {float(value):.4g}" for key, value in shown.items()),
            flush=True,
        )
