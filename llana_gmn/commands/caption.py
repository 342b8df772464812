"""``llana-gmn caption``."""

from __future__ import annotations

import argparse
import sys
import time

from .base import Command, InputErrors, process_state, with_rate
from .model_arguments import load_answering
from .records import add_record_arguments, answer_options, answer_settings, open_records


class Caption(Command):
    name = "caption"
    help = "captions of many NeRFs into a JSONL file, resumable"
    example = "llana-gmn caption --model llana-gmn-7b data/nerf/shapenet/mlp --out captions.jsonl"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("nerfs", nargs="+", help="NeRFs, directories of NeRFs, or embeddings (.npy, .h5)")
        parser.add_argument(
            "--out", required=True, help="the JSONL file; the same command continues what was interrupted"
        )
        parser.add_argument("--question", default="What is this object?", help="asked of each NeRF")
        add_record_arguments(parser, max_new_tokens=128)

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.embeddings.files import content_hashes
        from gmn_encoder.nerfs.files import find_nerfs

        from ..caption import caption_nerfs

        state, question = process_state(), arguments.question
        nerfs = [str(nerf) for given in arguments.nerfs for nerf in find_nerfs(given)]
        file = open_records(
            arguments.out,
            lambda: {
                nerf: {"question": question, "sha256": content}
                for nerf, content in zip(nerfs, content_hashes(nerfs), strict=True)
            },
            lambda: {"question": question, **answer_settings(arguments)},
            overwrite=arguments.overwrite,
            state=state,
            name_field="nerf",
        )
        model, processor = load_answering(arguments, device=state.device)
        errors, missing = InputErrors(self.name, debug=arguments.debug), file.missing()
        options = {"question": question, "on_error": lambda _, error: errors.add(error), **answer_options(arguments)}
        started, written = time.perf_counter(), 0
        captions = caption_nerfs(model, processor, missing, **options)
        for place, caption in with_rate(captions, "captions", len(missing), disable=not state.is_main_process):
            file.append(missing[place], {"caption": caption})
            written += 1
        rate = written / max(time.perf_counter() - started, 1e-9)
        state.wait_for_everyone()
        if state.is_main_process:
            each = " in each process" if state.num_processes > 1 else ""
            print(
                f"{arguments.out}: {file.finish()} captions, {written} new{each}, {rate:.2f} captions/s{each}",
                file=sys.stderr,
            )
        return errors.status
