"""``llana-gmn caption``."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from .base import Command, InputErrors, add_model_argument, model_path, process_state, progress_bar
from .chat import add_generation_arguments, generation_options


class Caption(Command):
    name = "caption"
    help = "captions of many NeRFs into a JSONL file, resumable"
    example = "llana-gmn caption --model llana-gmn-7b data/nerf/shapenet/mlp --out captions.jsonl"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("nerfs", nargs="+", help="NeRFs, directories of NeRFs, or embeddings (.npy, .h5)")
        add_model_argument(parser)
        parser.add_argument(
            "--out", required=True, help="the JSONL file; the same command continues what was interrupted"
        )
        parser.add_argument("--question", default="What is this object?", help="asked of each NeRF")
        parser.add_argument("--batch-size", type=int, default=16)
        parser.add_argument("--seed", type=int, default=0, help="of sampling")
        parser.add_argument("--overwrite", action="store_true", help="begin anew where the file is there already")
        add_generation_arguments(parser, max_new_tokens=128)

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.nerfs.files import find_nerfs

        from ..caption import CaptionFile, remove_captions
        from ..loading import load_model

        state = process_state()
        options, path = generation_options(arguments), model_path(arguments)
        nerfs = [nerf for given in arguments.nerfs for nerf in find_nerfs(given)]
        settings = {"model": path, "dtype": arguments.dtype, "bits": arguments.bits, "seed": arguments.seed}
        place: dict[str, Any] = {"rank": state.process_index, "world_size": state.num_processes}
        make = {"question": arguments.question, "settings": {**settings, **options}, **place}
        if arguments.overwrite and state.is_main_process:
            remove_captions(arguments.out)
        state.wait_for_everyone()
        file = CaptionFile(arguments.out, nerfs, **make)
        state.wait_for_everyone()
        if state.is_main_process:
            file.start()
        model, processor = load_model(path, dtype=arguments.dtype, bits=arguments.bits, device=state.device)
        errors = InputErrors(self.name, debug=arguments.debug)
        started = time.perf_counter()
        written = _write(file, model, processor, arguments, options, errors, hidden=not state.is_main_process)
        seconds = time.perf_counter() - started
        state.wait_for_everyone()
        if state.is_main_process:
            total = file.finish()
            rate = written / seconds if seconds > 0 else 0.0
            each = " in each process" if state.num_processes > 1 else ""
            print(
                f"{arguments.out}: {total} captions, {written} new{each}, {rate:.2f} captions/s{each}", file=sys.stderr
            )
        return errors.status


def _write(
    file: Any, model: Any, processor: Any, arguments: Any, options: dict[str, Any], errors: InputErrors, *, hidden: bool
) -> int:
    from ..caption import caption_nerfs

    missing = file.missing()
    captions = caption_nerfs(
        model,
        processor,
        missing,
        question=arguments.question,
        batch_size=arguments.batch_size,
        on_error=lambda _, error: errors.add(error),
        seed=arguments.seed,
        **options,
    )
    written = 0
    with progress_bar(disable=hidden) as progress:
        task = progress.add_task("captions", total=len(missing), note="")
        started = time.perf_counter()
        for i, caption in captions:
            file.write(missing[i], caption)
            written += 1
            rate = written / max(time.perf_counter() - started, 1e-9)
            progress.update(task, completed=written + len(errors.messages), note=f"{rate:.1f}/s")
    return written
