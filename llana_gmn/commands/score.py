"""``llana-gmn score``: metrics of anybody's result file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.progress import Progress

from .base import Command, InputErrors, stage_progress

if TYPE_CHECKING:
    from llana_eval.bootstrap import BootstrapSettings


class Score(Command):
    name = "score"
    help = "score a result file: BLEU, ROUGE, METEOR, S-BERT, SimCSE; compare two"
    example = "llana-gmn score results.json --protocol llana --metrics bleu-1,rouge-l,meteor"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("results", metavar="FILE", help="JSON or JSONL: ours, LLaNA's or PointLLM's")
        parser.add_argument("--against", metavar="FILE2", help="another result file: paired comparison")
        parser.add_argument(
            "--out", metavar="FILE", help="the scores (default: beside FILE, ..._evaluated_traditional.json)"
        )
        add_score_arguments(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        from llana_eval import compare_scores, read_results, write_scores
        from llana_eval.captioning.scoring import scores_path
        from llana_eval.captioning.tables import comparison_table, overall_table

        out = Path(arguments.out) if arguments.out else scores_path(arguments.results)
        files = [arguments.results, *([arguments.against] if arguments.against else [])]
        if any(out.absolute() == Path(file).absolute() for file in files):
            raise ValueError(f"{out}: is a result file that is to be scored; choose another --out")
        errors = InputErrors(self.name, debug=arguments.debug)
        scored = []
        for file in files:
            read = read_results(file)
            for problem in read.problems:
                errors.add(problem)
            with stage_progress() as progress:
                scored.append(scored_records(read.records, arguments, progress))
        print(overall_table(scored[0], title=str(arguments.results)).text())
        extra: dict[str, Any] = {}
        if arguments.against:
            differences = compare_scores(*scored, bootstrap=bootstrap_settings(arguments))
            print(comparison_table(differences, title=f"{arguments.results} against {arguments.against}").text())
            extra["comparison"] = {"against": arguments.against, **{k: vars(d) for k, d in differences.items()}}
        write_scores(scored[0], out, extra=extra)
        print(out)
        return errors.status


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `score` and `evaluate`."""
    parser.add_argument(
        "--protocol",
        choices=("full", "llana"),
        default="full",
        help="llana: as published, answers cut to 200 characters",
    )
    parser.add_argument("--metrics", metavar="NAMES", help="with commas, such as bleu-1,rouge-l (default: all ten)")
    parser.add_argument("--sbert-model", metavar="DIR", help="in place of all-mpnet-base-v2: a directory or a hub name")
    parser.add_argument(
        "--simcse-model", metavar="DIR", help="in place of sup-simcse-roberta-large: a directory or a hub name"
    )
    parser.add_argument("--resamples", type=int, default=1000, help="resamples of the bootstrap (default: 1000)")
    parser.add_argument("--confidence", type=float, default=0.95, help="coverage of the intervals (default: 0.95)")
    parser.add_argument("--bootstrap-seed", type=int, default=0, metavar="SEED", help="(default: 0)")


def bootstrap_settings(arguments: argparse.Namespace) -> BootstrapSettings:
    from llana_eval.bootstrap import BootstrapSettings

    return BootstrapSettings(arguments.resamples, arguments.confidence, arguments.bootstrap_seed)


def metric_names(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.metrics is None:
        return None
    return [name.strip() for name in arguments.metrics.split(",") if name.strip()]


def check_scoring(arguments: argparse.Namespace) -> None:
    """Raise what `score_captions` would for lack of a metric's data or model, before anything is scored."""
    from llana_eval.captioning.scoring import ScoreSettings, prepare

    models = {key: vars(arguments)[key] for key in ("sbert_model", "simcse_model") if vars(arguments)[key]}
    prepare(ScoreSettings(tuple(metric_names(arguments) or ()), **models))


def scored_records(records: list[dict[str, Any]], arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """`score_captions` with the command's arguments."""
    from llana_eval import score_captions

    return score_captions(
        records,
        metric_names(arguments),
        protocol=arguments.protocol,
        sbert_model=arguments.sbert_model,
        simcse_model=arguments.simcse_model,
        bootstrap=bootstrap_settings(arguments),
        progress=progress,
    )
