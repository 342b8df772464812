"""``llana-gmn merge``."""

from __future__ import annotations

import argparse

from .base import Command


class Merge(Command):
    name = "merge"
    help = "a LoRA adapter into its base model"
    example = "llana-gmn merge runs/stage2 --out llana-gmn-merged"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("adapter", help="directory with adapter_config.json")
        parser.add_argument("--out", required=True, help="a new directory")
        parser.add_argument("--model", help="the base model, if it is no longer where the adapter says")
        parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")

    def run(self, arguments: argparse.Namespace) -> int:
        from ..checkpoints.merge import merge

        print(merge(arguments.adapter, arguments.out, model=arguments.model, dtype=arguments.dtype))
        return 0
