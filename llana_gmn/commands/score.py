"""``llana-gmn score``: metrics of anybody's result file, and a judge's opinion where one is named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.progress import Progress

from .base import Command, InputErrors, stage_progress

if TYPE_CHECKING:
    from gmn_encoder.files import StrPath
    from llana_eval.bootstrap import BootstrapSettings
    from llana_eval.captioning.judge import Judge


class Score(Command):
    name = "score"
    help = "score a result file: BLEU, ROUGE, METEOR, S-BERT, SimCSE, a judge; compare two"
    example = "llana-gmn score results.json --protocol llana --metrics bleu-1,rouge-l,meteor"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("results", metavar="FILE", help="JSON or JSONL: ours, LLaNA's or PointLLM's")
        parser.add_argument("--against", metavar="FILE2", help="another result file: paired comparison")
        parser.add_argument(
            "--out", metavar="FILE", help="the scores (default: beside FILE, ..._evaluated_traditional.json)"
        )
        parser.add_argument("--overwrite", action="store_true", help="ask the judge anew where it has replied already")
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
        judge_of(arguments)  # what it lacks shows now, not after the scores
        scored = []
        for file in files:
            read = read_results(file)
            for problem in read.problems:
                errors.add(problem)
            with stage_progress() as progress:
                scored.append(scored_records(read.records, arguments, progress, file, errors))
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
    judge = parser.add_argument_group("judge", "asked only where it is named; replies are kept beside the results")
    judge.add_argument(
        "--judge", metavar="MODEL", help="directory of a causal language model, or with --judge-url a name there"
    )
    judge.add_argument(
        "--judge-url",
        metavar="URL",
        help="OpenAI-compatible endpoint that serves MODEL, as in http://127.0.0.1:8000/v1",
    )
    judge.add_argument("--judge-key-env", metavar="NAME", help="environment variable with the endpoint's key")
    judge.add_argument("--judge-batch-size", type=int, default=8, metavar="N", help="prompts at a time (default: 8)")
    judge.add_argument(
        "--judge-max-new-tokens", type=int, default=64, metavar="N", help="most tokens of a reply (default: 64)"
    )


def bootstrap_settings(arguments: argparse.Namespace) -> BootstrapSettings:
    from llana_eval.bootstrap import BootstrapSettings

    return BootstrapSettings(arguments.resamples, arguments.confidence, arguments.bootstrap_seed)


def metric_names(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.metrics is None:
        return None
    return [name.strip() for name in arguments.metrics.split(",") if name.strip()]


def check_scoring(arguments: argparse.Namespace) -> None:
    """Raise what scoring would for lack of a metric's data or model, or the judge's, before anything is scored."""
    from llana_eval.captioning.scoring import ScoreSettings, prepare

    models = {key: vars(arguments)[key] for key in ("sbert_model", "simcse_model") if vars(arguments)[key]}
    judge_of(arguments)
    prepare(ScoreSettings(tuple(metric_names(arguments) or ()), **models))


def judge_of(arguments: argparse.Namespace) -> Judge | None:
    """The judge that is named, if one is; nothing is loaded or contacted yet."""
    from llana_eval.captioning.judge import LocalJudge
    from llana_eval.captioning.judge_endpoint import EndpointJudge

    for name in ("judge_url", "judge_key_env"):
        if getattr(arguments, name) and not (arguments.judge and arguments.judge_url):
            missing = "--judge, the model's name" if arguments.judge_url else "--judge-url, the endpoint it is for"
            raise ValueError(f"--{name.replace('_', '-')} needs {missing}")
    if not arguments.judge:
        return None
    sizes = {"batch_size": arguments.judge_batch_size, "max_new_tokens": arguments.judge_max_new_tokens}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"--judge-{name.replace('_', '-')} must be at least 1, got {size}")
    if not arguments.judge_url:
        return LocalJudge(arguments.judge, **sizes)
    return EndpointJudge(arguments.judge, arguments.judge_url, key_env=arguments.judge_key_env, **sizes)


def scored_records(
    records: list[dict[str, Any]],
    arguments: argparse.Namespace,
    progress: Progress,
    path: StrPath,
    errors: InputErrors,
) -> dict[str, Any]:
    """`score_captions`, and the judge where there is one, with the command's arguments.

    Args:
        records: what to score.
        arguments: the command's, with those of `add_score_arguments` and ``--overwrite``.
        progress: receives what is done.
        path: the file that the records are from; the judge's replies go beside it.
        errors: receives a sentence on replies without a score.
    """
    from llana_eval import score_captions
    from llana_eval.captioning.judge import judge_file, judge_records, unscored, with_judge

    scores = score_captions(
        records,
        metric_names(arguments),
        protocol=arguments.protocol,
        sbert_model=arguments.sbert_model,
        simcse_model=arguments.simcse_model,
        bootstrap=bootstrap_settings(arguments),
        progress=progress,
    )
    judge = judge_of(arguments)
    if judge is None:
        return scores
    replies = judge_file(path, arguments.judge)
    options = {"overwrite": arguments.overwrite, "progress": progress}
    judged = judge_records(scores["results"], judge, replies, **options)
    if problem := unscored(judged, replies):
        errors.add(problem)
    return with_judge(scores, judged, judge, bootstrap=bootstrap_settings(arguments))
