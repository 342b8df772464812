"""``llana-gmn demo``: the main job on what the package ships."""

from __future__ import annotations

import argparse
from pathlib import Path

from .base import Command, stage_progress


class DemoCommand(Command):
    name = "demo"
    help = (
        "embed, describe, question, retrieve and score the NeRFs that ship, with the model that ships; writes a report"
    )
    example = "llana-gmn demo --out demo"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--out", default="demo", metavar="DIR", help="where files go (default: demo)")
        parser.add_argument("--model", metavar="DIR", help="another model than the one that ships")
        parser.add_argument("--nerfs", metavar="DIR", help="other NeRFs, with their objects.json")

    def run(self, arguments: argparse.Namespace) -> int:
        from llana_eval.demo import run_demo
        from llana_gmn.defaults import default_model_path, default_nerfs_path
        from llana_gmn.loading import load_model

        model, processor = load_model(arguments.model or default_model_path())
        nerfs = Path(arguments.nerfs) if arguments.nerfs else default_nerfs_path()
        with stage_progress() as progress:
            result = run_demo(model, processor, nerfs, arguments.out, progress=progress)
        for table in result.tables:
            print(table.text())
        print(f"The report, with pictures and answers: {result.report}")
        return 0
