"""``llana-gmn evaluate``: the captioning benchmark, from questions to tables."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Command, InputErrors, add_model_argument, model_path, process_state, progress_bar, stage_progress
from .chat import add_generation_arguments, generation_options
from .score import add_score_arguments, metric_names, overall_table, scored_records

if TYPE_CHECKING:
    from llana_eval.captioning.benchmark import Benchmark

_TASKS = ("brief_description", "detailed_description", "single_round", "multi_round", "hst")


class Evaluate(Command):
    name = "evaluate"
    help = "run the LLaNA benchmark: ask, score, report; continues after a kill"
    example = "llana-gmn evaluate --model llana-gmn-7b --data data --task brief_description --family hash"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_model_argument(parser)
        parser.add_argument(
            "--data",
            required=True,
            metavar="DIR",
            help="texts and NeRFs: ShapeNeRF-Text, or what 'fit procedural:N' wrote",
        )
        parser.add_argument("--task", required=True, choices=_TASKS)
        parser.add_argument("--split", default="test", help="train, val or test (default: test)")
        parser.add_argument(
            "--family", metavar="NAME", help="mlp, triplane, hash, or a folder such as hash_unseen/HASH-11T"
        )
        parser.add_argument(
            "--embeddings", metavar="DIR", help="embeddings in place of NeRFs, .npy or .h5 (default: vecs/)"
        )
        parser.add_argument(
            "--out", metavar="DIR", help="of all results (default: evaluation_results/<end of the model's path>)"
        )
        parser.add_argument("--limit", type=int, metavar="N", help="only the first N conversations")
        parser.add_argument("--batch-size", type=int, default=16)
        parser.add_argument("--seed", type=int, default=0, help="of sampling")
        parser.add_argument(
            "--gallery", type=int, default=24, metavar="N", help="records in the gallery (0: no gallery)"
        )
        parser.add_argument("--overwrite", action="store_true", help="begin anew where answers are there already")
        add_generation_arguments(parser, max_new_tokens=None)
        add_score_arguments(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        from llana_eval.captioning.benchmark import ANSWER_NAME, load_benchmark
        from llana_eval.captioning.scoring import ScoreSettings, prepare
        from llana_eval.captioning.tasks import load_task
        from llana_gmn.record_file import RecordFile, remove_records

        arguments.model = model_path(arguments)
        task = load_task(arguments.task)
        if arguments.max_new_tokens is None:
            arguments.max_new_tokens = task.max_new_tokens
        state = process_state()
        benchmark = load_benchmark(
            task,
            arguments.data,
            protocol=arguments.protocol,
            split=arguments.split,
            family=arguments.family,
            embeddings=arguments.embeddings,
            limit=arguments.limit,
        )
        errors = InputErrors(self.name, debug=arguments.debug)
        if state.is_main_process:
            for problem in benchmark.problems:
                errors.add(problem)
            # What scoring lacks shows now, not after hours of answering.
            models = {key: vars(arguments)[key] for key in ("sbert_model", "simcse_model") if vars(arguments)[key]}
            prepare(replace(ScoreSettings(tuple(metric_names(arguments) or ())), **models))
        settings = _settings(arguments, benchmark)
        stem = _stem(arguments, benchmark)
        if arguments.overwrite and state.is_main_process:
            remove_records(f"{stem}.jsonl")
        state.wait_for_everyone()
        names = [item.name for item in benchmark.items]
        file = RecordFile(
            f"{stem}.jsonl",
            names,
            settings=settings,
            name_field=ANSWER_NAME,
            rank=state.process_index,
            world_size=state.num_processes,
        )
        state.wait_for_everyone()
        if state.is_main_process:
            file.start()
        _answer(file, benchmark, arguments, state, errors)
        state.wait_for_everyone()
        if state.is_main_process:
            file.finish()
            _report(file.records(), benchmark, arguments, settings, stem, errors)
        return errors.status


def _settings(arguments: argparse.Namespace, benchmark: Benchmark) -> dict[str, Any]:
    """Everything that decides what the answers are."""
    return {
        "model": arguments.model,
        "task": benchmark.task.name,
        "asked": "every turn" if benchmark.task.dialogue and arguments.protocol == "full" else "the first turn",
        "texts": str(benchmark.texts),
        "nerfs": benchmark.test,
        "dtype": arguments.dtype,
        "bits": arguments.bits,
        "seed": arguments.seed,
        **generation_options(arguments),
    }


def _stem(arguments: argparse.Namespace, benchmark: Benchmark) -> Path:
    """Of all files of a run: the published folder, the task, and what the NeRFs are."""
    parts = [part for part in Path(arguments.model).parts if part not in (Path(arguments.model).anchor, "..")]
    out = Path(arguments.out) if arguments.out else Path("evaluation_results", *parts[-2:])
    return Path(out, f"{benchmark.task.name}_{benchmark.test.replace('/', '_')}")


def _answer(file: Any, benchmark: Benchmark, arguments: argparse.Namespace, state: Any, errors: InputErrors) -> None:
    from llana_eval.captioning.benchmark import answer
    from llana_gmn.loading import load_model

    missing = set(file.missing())
    items = [item for item in benchmark.items if item.name in missing]
    if not items:
        return
    model, processor = load_model(arguments.model, dtype=arguments.dtype, bits=arguments.bits, device=state.device)
    options = {"batch_size": arguments.batch_size, "seed": arguments.seed, **generation_options(arguments)}
    with progress_bar(disable=not state.is_main_process) as progress:
        task = progress.add_task("conversations", total=len(items), note="")
        started = time.perf_counter()
        records = answer(model, processor, items, on_error=lambda _, error: errors.add(error), **options)
        for count, record in enumerate(records, 1):
            file.append(record)
            rate = count / max(time.perf_counter() - started, 1e-9)
            progress.update(task, completed=count, note=f"{rate:.1f}/s")


def _report(
    answers: Mapping[str, Mapping[str, Any]],
    benchmark: Benchmark,
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    stem: Path,
    errors: InputErrors,
) -> None:
    """Results, scores, tables and gallery, from the answers."""
    from gmn_encoder.files import write_bytes
    from llana_eval import write_scores
    from llana_eval.captioning.answer_page import write_gallery
    from llana_eval.captioning.benchmark import result_records
    from llana_eval.captioning.report import captioning_tables, write_tables
    from llana_eval.captioning.scoring import scores_path

    records = result_records(benchmark, answers)
    if not records:
        raise ValueError(f"{stem}.jsonl: holds no answers; nothing to score")
    results = Path(f"{stem}.json")
    write_bytes((json.dumps(records, indent=2, ensure_ascii=False) + "\n").encode(), results)
    with stage_progress() as step:
        scores = scored_records(records, arguments, step)
    write_scores(scores, scores_path(results), extra={"run": {**settings, "batch_size": arguments.batch_size}})
    tables = captioning_tables(
        benchmark.task.title,
        benchmark.task.published_tables,
        method=Path(arguments.model).name,
        test=benchmark.test,
        scores=scores["overall_scores"],
        note=f"protocol {arguments.protocol}, {len(records)} records",
    )
    write_tables(tables, stem)
    print(overall_table(scores, title=results.name).text())
    print(tables[0].text())
    if arguments.gallery:
        nerfs = [item.nerf for item in benchmark.items if item.name in answers for _ in item.conversation.turns]
        with progress_bar() as bar:
            task = bar.add_task("gallery", total=None, note="")
            write_gallery(
                f"{stem}_gallery.html",
                f"{benchmark.task.title}: {Path(arguments.model).name}",
                [{**record, **scored} for record, scored in zip(records, scores["results"], strict=True)],
                nerfs,
                tables=tables,
                count=arguments.gallery,
                on_error=errors.add,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    beside = "scores, tables and gallery" if arguments.gallery else "scores and tables"
    print(f"{results}: {len(records)} records; {beside} beside it", file=sys.stderr)
