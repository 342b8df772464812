"""``llana-gmn convert``."""

from __future__ import annotations

import argparse

from .base import Command


class Convert(Command):
    name = "convert"
    help = "checkpoints of LLaNA and gmnerf into our layout, and back"
    example = "llana-gmn convert LLaNA-7B --encoder best.pt --out llana-gmn-7b"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "source", help="a LLaNA directory, a model or encoder directory of ours, or a gmnerf .pt file"
        )
        parser.add_argument("--out", required=True, help="a new directory (with --to gmnerf: a new .pt file)")
        parser.add_argument(
            "--to", choices=("llana-gmn", "llana", "gmnerf"), default="llana-gmn", help="layout to write"
        )
        parser.add_argument(
            "--encoder", help="the encoder of a LLaNA model: a directory, or a .pt file of gmnerf or nf2vec"
        )
        parser.add_argument("--projector", help="LLaNA's vec_proj.bin, in place of the projector in SOURCE")
        parser.add_argument("--tokenizer", help="the Llama's tokenizer.model, for --to llana where SOURCE has none")
        parser.add_argument(
            "--dtype", choices=("float32", "bfloat16", "float16"), help="dtype of the weights (default: as they are)"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        import torch

        from ..conversion.convert import convert

        out = convert(
            arguments.source,
            arguments.out,
            to=arguments.to,
            encoder=arguments.encoder,
            projector=arguments.projector,
            tokenizer=arguments.tokenizer,
            dtype=getattr(torch, arguments.dtype) if arguments.dtype else None,
        )
        print(out)
        return 0
