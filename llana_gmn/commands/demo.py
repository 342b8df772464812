"""``llana-gmn demo``: the main job on what the package can make by itself."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from .base import Command


class DemoCommand(Command):
    name = "demo"
    help = "make NeRF files of all three families with random weights, read them, and embed them with a random encoder"
    example = "llana-gmn demo --out demo"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--out", default="demo", metavar="DIR", help="where files go (default: demo)")

    def run(self, arguments: argparse.Namespace) -> int:
        import torch

        from gmn_encoder import PAPER_ARCHITECTURES, GmnEncoder, Nerf, load_nerf, save_nerf

        from .inspect import describe, format_description

        out = Path(arguments.out)
        names = ("MLP", "TRI", "HASH")
        files = [
            save_nerf(Nerf.random(PAPER_ARCHITECTURES[name], seed=i), out / "nerf" / PAPER_ARCHITECTURES[name].family)
            for i, name in enumerate(names)
        ]
        torch.manual_seed(0)
        GmnEncoder().save_pretrained(out / "encoder")
        encoder = GmnEncoder.from_pretrained(out / "encoder")
        nerfs = [load_nerf(file) for file in files]
        for nerf in nerfs:
            print(format_description(describe(nerf)))
        for nerf in nerfs:
            start = time.perf_counter()
            (embedding,) = encoder.encode([nerf])
            print(
                f"{nerf.architecture.name}: {embedding.numel()}-dimensional embedding, norm {embedding.norm():.3f}, "
                f"in {1000 * (time.perf_counter() - start):.0f} ms"
            )
        print(
            f"The weights are random: this shows that files are read and embedded, not what they look like. Files in {out}."
        )
        return 0
