"""``llana-gmn evaluate``: the captioning benchmark, from questions to tables."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Command, InputErrors, process_state, stage_progress, with_rate
from .model_arguments import load_answering, model_path
from .records import add_record_arguments, answer_options, answer_settings, has_changed, open_records
from .score import add_score_arguments, check_scoring, scored_records

if TYPE_CHECKING:
    from accelerate import PartialState

    from llana_eval.captioning.benchmark import Benchmark

    from ..inference.record_file import RecordFile

_TASKS = ("brief_description", "detailed_description", "single_round", "multi_round", "hst")


class Evaluate(Command):
    name = "evaluate"
    help = (
        "run the LLaNA benchmark: ask, score, report; continues after a kill, asks again about NeRFs that changed, and refuses "
        "another model"
    )
    example = "llana-gmn evaluate --model llana-gmn-7b --data data --task brief_description --family hash"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
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
            "--out",
            metavar="DIR",
            help="directory of all results (default: evaluation_results/<end of the model's path>)",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="only the first N conversations")
        parser.add_argument(
            "--gallery", type=int, default=24, metavar="N", help="records in the gallery (0: no gallery)"
        )
        parser.add_argument(
            "--baseline",
            choices=("vlm",),
            help="vlm: --model is an image-text-to-text model of transformers, shown a rendered view of each NeRF",
        )
        parser.add_argument(
            "--view-size", type=int, default=224, metavar="PIXELS", help="of --baseline's view (default: 224)"
        )
        parser.add_argument(
            "--view-azimuth",
            type=float,
            default=90.0,
            metavar="DEGREES",
            help="side that --baseline's view is from: 90 +x, 180 -y, the front of procedural objects (default: 90)",
        )
        add_record_arguments(parser, max_new_tokens=None)
        add_score_arguments(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        from llana_eval.captioning.baselines import check_baseline
        from llana_eval.captioning.benchmark import asked_of, load_benchmark
        from llana_eval.captioning.tasks import load_task

        if arguments.baseline and not arguments.model:
            raise ValueError("--baseline vlm needs --model: the image-text-to-text model that is shown the views")
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
            check_scoring(arguments)  # what it lacks shows now, not after hours of answering
            if arguments.baseline:
                check_baseline(arguments.model, [item.nerf for item in benchmark.items])
        stem = _stem(arguments, benchmark)
        with open_records(
            f"{stem}.jsonl",
            lambda known: asked_of(benchmark.items, known),
            lambda known: {**_settings(arguments, benchmark), **answer_settings(arguments, known)},
            overwrite=arguments.overwrite,
            state=state,
        ) as file:
            _answer(file, benchmark, arguments, state, errors)
            state.wait_for_everyone()
            if state.is_main_process:
                file.finish()
                _report(file, benchmark, arguments, stem, errors)
        return errors.status


def _settings(arguments: argparse.Namespace, benchmark: Benchmark) -> dict[str, Any]:
    """Everything beside the model that decides what the answers are."""
    from llana_eval.captioning.baselines import VIEW

    view = {"view": VIEW, "view_azimuth": arguments.view_azimuth, "view_size": arguments.view_size}
    shown = {"baseline": arguments.baseline, **view}
    return {
        **(shown if arguments.baseline else {}),
        "task": benchmark.task.name,
        "asked": "every turn" if benchmark.task.dialogue and arguments.protocol == "full" else "the first turn",
        "texts": str(benchmark.texts),
        "nerfs": benchmark.test,
    }


def _stem(arguments: argparse.Namespace, benchmark: Benchmark) -> Path:
    """Common part of the names of a run's files: the published folder, the task, and what the NeRFs are."""
    parts = [part for part in Path(arguments.model).parts if part not in (Path(arguments.model).anchor, "..")]
    out = Path(arguments.out) if arguments.out else Path("evaluation_results", *parts[-2:])
    baseline = f"_{arguments.baseline}" if arguments.baseline else ""
    return Path(out, f"{benchmark.task.name}_{benchmark.test.replace('/', '_')}{baseline}")


def _answer(
    file: RecordFile, benchmark: Benchmark, arguments: argparse.Namespace, state: PartialState, errors: InputErrors
) -> None:
    from gmn_encoder.digests import Digests
    from gmn_encoder.embeddings.files import is_embedding_file
    from llana_eval.captioning.benchmark import answer

    from ..checkpoints.encoders import check_origin

    missing = set(file.missing())
    items = [item for item in benchmark.items if item.name in missing]
    if not items:
        return
    model, processor = _load(arguments, state)
    if state.is_main_process and is_embedding_file(items[0].nerf):  # never so with a baseline
        where = arguments.embeddings or items[0].nerf.parent
        if note := check_origin("", model.nerf_encoder, where):
            print(note, file=sys.stderr)
    options = {"on_error": lambda _, error: errors.add(error), **answer_options(arguments)}
    found = answer(model, processor, items, **options)
    known = Digests()
    for item, answers in with_rate(found, "conversations", len(items), disable=not state.is_main_process):
        if has_changed(item.nerf, file.is_of(item.name), known):
            errors.add(f"{item.nerf}: changed while the model was asked about it; run the same command again")
            continue
        file.append(item.name, {"nerf": str(item.nerf), "answers": answers})


def _load(arguments: argparse.Namespace, state: PartialState) -> tuple[Any, Any]:
    """What answers: our model, or a baseline."""
    from llana_eval.captioning.baselines import load_vlm

    if not arguments.baseline:
        return load_answering(arguments, device=state.device)
    view = {"size": arguments.view_size, "azimuth": arguments.view_azimuth}
    return load_vlm(arguments.model, device=state.device, dtype=arguments.dtype, bits=arguments.bits, **view)


def _report(
    file: RecordFile, benchmark: Benchmark, arguments: argparse.Namespace, stem: Path, errors: InputErrors
) -> None:
    """Results, scores, tables and gallery, from the answers."""
    from gmn_encoder.files import write_bytes
    from llana_eval import write_scores
    from llana_eval.captioning.answers import answers_html
    from llana_eval.captioning.benchmark import result_records
    from llana_eval.captioning.scoring import scores_path
    from llana_eval.captioning.tables import captioning_tables, overall_table
    from llana_eval.pages import write_page, write_tables

    answers = {name: record["answers"] for name, record in file.records().items()}
    records = result_records(benchmark, answers)
    if not records:
        raise ValueError(f"{stem}.jsonl: holds no answers; nothing to score")
    results = Path(f"{stem}.json")
    write_bytes((json.dumps(records, indent=2, ensure_ascii=False) + "\n").encode(), results)
    with stage_progress() as step:
        scores = scored_records(records, arguments, step, results, errors)
    write_scores(scores, scores_path(results), extra={"run": {**file.settings, "batch_size": arguments.batch_size}})
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
        shown = [{**record, **scored} for record, scored in zip(records, scores["results"], strict=True)]
        nerfs = [item.nerf for item in benchmark.items if item.name in answers for _ in item.conversation.turns]
        with stage_progress() as step:
            table = answers_html(shown, nerfs, count=arguments.gallery, on_error=errors.add, progress=step)
        title = f"{benchmark.task.title}: {Path(arguments.model).name}"
        write_page(f"{stem}_gallery.html", title, tables=tables, more=table)
    beside = "scores, tables and gallery" if arguments.gallery else "scores and tables"
    print(f"{results}: {len(records)} records; {beside} beside it", file=sys.stderr)
