"""``llana-gmn embed``: NeRF files to embeddings."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from gmn_encoder import find_nerfs
from gmn_encoder.files import StrPath

from .base import Command, InputErrors, add_nerf_arguments, process_state, stage_progress
from .foreign_arguments import add_cache_arguments, open_foreign


def listed_nerfs(paths: list[str], split: StrPath | None, root: StrPath | None) -> list[Path]:
    """The NeRFs that paths and a split file name: directories are searched, lines of the split are relative to `root`."""
    found = [nerf for path in paths for nerf in find_nerfs(path)]
    if split is not None:
        try:
            lines = Path(split).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{split}: is no readable list of NeRFs ({getattr(error, 'strerror', None) or error})"
            ) from error
        base = Path(root) if root is not None else Path(split).parent
        found += [base / line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError("no NeRF given; name files or directories, or a list with --split")
    return found


class EmbedCommand(Command):
    name = "embed"
    help = (
        "embed NeRFs with an encoder; continues where a killed run stopped, embeds anew what has changed since, and refuses "
        "another encoder"
    )
    example = "llana-gmn embed nerfs/ --encoder l_rec_con/best.pt --out embeddings.safetensors"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_nerf_arguments(parser, nargs="*")
        parser.add_argument(
            "--encoder",
            required=True,
            metavar="ENC",
            help="encoder or model: a directory or hub name, or a released .pt file",
        )
        parser.add_argument(
            "--out", required=True, metavar="FILE", help=".safetensors, .npz, or a directory for .h5 files"
        )
        parser.add_argument(
            "--split", metavar="FILE", help="list of NeRF directories, one relative path a line (test.txt)"
        )
        parser.add_argument(
            "--root", metavar="DIR", help="what the lines of --split are relative to (default: its directory)"
        )
        parser.add_argument(
            "--batch-size", type=int, default=8, metavar="N", help="NeRFs of one architecture at a time"
        )
        parser.add_argument(
            "--dtype", choices=("float32", "bfloat16", "float64"), default="float32", help="what heavy products run in"
        )
        parser.add_argument(
            "--tokens", action="store_true", help="all of the encoder's tokens, for a language model that reads them"
        )
        parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
        add_cache_arguments(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        import torch

        from gmn_encoder.embeddings.job import EmbeddingJob
        from gmn_encoder.locks import output_lock

        from ..checkpoints.encoders import open_encoder

        if arguments.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {arguments.batch_size}")
        state, errors = process_state(), InputErrors(self.name, debug=arguments.debug)
        with state.main_process_first():  # the others find what it fits
            given = open_foreign(arguments.nerfs, arguments, errors)
        paths = listed_nerfs(given, arguments.split, arguments.root)
        encoder = open_encoder(arguments.encoder)
        dtype = getattr(torch, arguments.dtype)
        if dtype == torch.float64:
            encoder = encoder.to(dtype)
        start = time.perf_counter()
        with output_lock(arguments.out, hold=state.is_main_process):
            with state.main_process_first():  # the main process sets the job up, the others find it
                job = EmbeddingJob(
                    paths,
                    encoder.to(state.device),
                    out=arguments.out,
                    architecture=arguments.architecture,
                    batch_size=arguments.batch_size,
                    dtype=dtype,
                    tokens=arguments.tokens,
                    overwrite=arguments.overwrite,
                )
            with stage_progress(disable=not state.is_main_process) as progress:
                job.run(rank=state.process_index, world_size=state.num_processes, progress=progress)
            state.wait_for_everyone()
            if not state.is_main_process:
                return 0
            result = job.finish()
        for message in result.problems:
            errors.add(message)
        seconds = time.perf_counter() - start
        if len(result):
            print(f"{len(result)} embeddings in {arguments.out} ({seconds:.1f} s)", file=sys.stderr)
        return errors.status
