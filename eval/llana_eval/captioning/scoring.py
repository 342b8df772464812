"""Scores of captions and answers: the metrics of the LLaNA benchmark, in two protocols.

Source: docs/released_format.md#metrics; the paper's Tables 8 to 13 and 19 to 24. Protocol ``llana`` is the published evaluator:
the answer is cut to its first 200 characters, an empty one becomes ``##``, means are written as strings with four decimals.
Protocol ``full`` is the same without the cut, which depresses recall on long references. Scores are in 0..100, means are over
records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath, write_json
from gmn_encoder.progress import Progress, no_progress

from ..bootstrap import BootstrapSettings, Difference, confidence_intervals, paired_differences
from .ngrams import BLEU_WEIGHTS, METEOR_NAME, ROUGE_NAMES, bleu_scores, meteor_scores, rouge_scores
from .results import Record, record_key, record_problem
from .similarity import (
    SBERT_MODEL,
    SBERT_NAME,
    SIMCSE_MODEL,
    SIMCSE_NAME,
    TextEmbedder,
    sbert_embedder,
    simcse_embedder,
)
from .wordnet import load_wordnet

METRICS = (*BLEU_WEIGHTS, *ROUGE_NAMES, METEOR_NAME, SBERT_NAME, SIMCSE_NAME)
"""Names of the metrics, in the order of the published files."""

PROTOCOLS = ("llana", "full")
CUT = 200
EMPTY = "##"
SUFFIX = "_evaluated_traditional.json"

_SHOWN = 5

Model = str | os.PathLike[str] | TextEmbedder | None


@dataclass(frozen=True)
class ScoreSettings:
    """How to score.

    Attributes:
        metrics: names of `METRICS`, in this order; empty for all.
        protocol: one of `PROTOCOLS`.
        sbert_model, simcse_model: directories, or names on the hub.
        bootstrap: settings of the confidence intervals.
    """

    metrics: tuple[str, ...] = METRICS
    protocol: str = "full"
    sbert_model: str = SBERT_MODEL
    simcse_model: str = SIMCSE_MODEL
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}; expected one of {', '.join(PROTOCOLS)}")
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise ValueError(f"metric {unknown[0]!r} is unknown; expected of {', '.join(METRICS)}")
        chosen = tuple(name for name in METRICS if name in self.metrics) or METRICS
        object.__setattr__(self, "metrics", chosen)


def score_captions(
    records: Iterable[Record],
    metrics: Sequence[str] | None = None,
    *,
    protocol: str = "full",
    sbert_model: Model = None,
    simcse_model: Model = None,
    bootstrap: BootstrapSettings | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Score what a model said about objects.

    Args:
        records: ``{"object_id", "question", "ground_truth", "model_output"}`` each; the question may be missing.
        metrics: names of `METRICS`; None for all.
        protocol: ``"full"``, or ``"llana"`` for the published evaluator's numbers.
        sbert_model, simcse_model: a directory, a name on the hub, or an embedder; None for the published models.
        bootstrap: settings of the confidence intervals.
        progress: receives the name of a metric and how many of its texts are done.

    Returns:
        ``overall_scores`` and ``confidence_intervals`` (name -> mean in 0..100, and its interval), ``results`` (a record each
        with ``scores``; `model_output` as it was scored) and ``settings``.

    Raises:
        ValueError: no records, a record without its texts (the first ones are named), an unknown metric or protocol.
        OSError: WordNet or a model is missing; the message says what to do. Found out before any work.
    """
    settings = ScoreSettings(
        tuple(metrics if metrics is not None else METRICS),
        protocol,
        _name(sbert_model, SBERT_MODEL),
        _name(simcse_model, SIMCSE_MODEL),
        bootstrap or BootstrapSettings(),
    )
    records = list(records)
    _check(records)
    scorers = prepare(settings, sbert_model=sbert_model, simcse_model=simcse_model)
    predictions = [prepared_output(record["model_output"], protocol) for record in records]
    references = [record["ground_truth"] for record in records]
    scores: dict[str, list[float]] = {}
    for stage, scorer in scorers.items():
        scores |= scorer(predictions, references, _counter(stage, len(records), progress))
    scores = {name: scores[name] for name in settings.metrics}
    return {
        "overall_scores": {name: sum(values) / len(values) for name, values in scores.items()},
        "confidence_intervals": {
            name: list(pair) for name, pair in confidence_intervals(scores, settings.bootstrap).items()
        },
        "results": [
            {**record, "model_output": output, "scores": {name: values[i] for name, values in scores.items()}}
            for i, (record, output) in enumerate(zip(records, predictions, strict=True))
        ],
        "settings": _about(settings) | {"records": len(records)},
    }


def prepared_output(text: str, protocol: str) -> str:
    """A model's output as it is scored. The cut comes first, as published."""
    if protocol == "llana":
        text = text[:CUT]
    return text or EMPTY


Scorer = Callable[[Sequence[str], Sequence[str], Callable[[float], Any]], dict[str, list[float]]]


def prepare(settings: ScoreSettings, *, sbert_model: Model = None, simcse_model: Model = None) -> dict[str, Scorer]:
    """The work of a call by stages, with everything loaded: what is missing is missed here, before any work.

    Raises what `score_captions` raises.
    """
    chosen = set(settings.metrics)
    scorers: dict[str, Scorer] = {}
    if chosen & set(BLEU_WEIGHTS):
        scorers["BLEU"] = lambda p, r, step: bleu_scores(p, r, on_pair=step)
    if names := [name for name in ROUGE_NAMES if name in chosen]:
        scorers["ROUGE"] = lambda p, r, step: rouge_scores(p, r, names=names, on_pair=step)
    if METEOR_NAME in chosen:
        wordnet = load_wordnet()
        scorers["METEOR"] = lambda p, r, step: meteor_scores(p, r, wordnet=wordnet, on_pair=step)
    if SBERT_NAME in chosen:
        sbert = sbert_model if isinstance(sbert_model, TextEmbedder) else sbert_embedder(settings.sbert_model)
        scorers["S-BERT"] = _similarity(SBERT_NAME, sbert)
    if SIMCSE_NAME in chosen:
        simcse = simcse_model if isinstance(simcse_model, TextEmbedder) else simcse_embedder(settings.simcse_model)
        scorers["SimCSE"] = _similarity(SIMCSE_NAME, simcse)
    return scorers


def _similarity(name: str, embedder: TextEmbedder) -> Scorer:
    # Two texts a record: half a step each.
    return lambda p, r, step: {name: embedder.similarity(p, r, on_texts=lambda count: step(count / 2))}


def compare_scores(
    first: Mapping[str, Any], second: Mapping[str, Any], *, bootstrap: BootstrapSettings | None = None
) -> dict[str, Difference]:
    """The paired comparison of two results of `score_captions` on the same records, in any order.

    Raises `ValueError` where one has a record that the other lacks (the first are named), or was scored with another protocol or
    model.
    """
    judges = [scores["settings"].get("judge") for scores in (first, second)]
    if judges[0] != judges[1] and None not in judges:
        names = " and ".join(repr(each["judge"]) for each in judges)
        raise ValueError(f"the results were judged by {names}, or with other settings; expected one judge for both")
    for key in ("protocol", "sbert_model", "simcse_model"):
        ours, theirs = first["settings"][key], second["settings"][key]
        if ours != theirs and (key == "protocol" or None not in (ours, theirs)):
            raise ValueError(f"the results were scored with {key} {ours!r} and {theirs!r}; expected the same for both")
    a, b = _by_record(first["results"]), _by_record(second["results"])
    for here, there, place in ((a, b, "second"), (b, a, "first")):
        if missing := [key for key in here if key not in there]:
            names = ", ".join(repr(key[0]) for key in missing[:_SHOWN])
            raise ValueError(
                f"{len(missing)} of {len(here)} records are missing in the {place} results: of objects {names}"
                f"{' and others' if len(missing) > _SHOWN else ''}; expected the same objects, questions and references in both"
            )
    metrics = [name for name in first["overall_scores"] if name in second["overall_scores"]]
    both = {name: tuple(key for key in a if name in a[key] and name in b[key]) for name in metrics}
    differences: dict[str, Difference] = {}
    for keys in dict.fromkeys(both.values()):  # one set of records, but for a judge that did not score all
        tables = [
            {name: [scores[key][name] for key in keys] for name in metrics if both[name] == keys} for scores in (a, b)
        ]
        if keys:
            differences |= paired_differences(tables[0], tables[1], bootstrap)
    if not differences:
        raise ValueError("the two systems have no metric in common")
    return differences


def write_scores(scores: Mapping[str, Any], path: StrPath, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write scores in the published layout: ``overall_scores`` as strings with four decimals, ``results`` with a record's
    object, reference, output as scored, and scores. Protocol ``full`` adds ``confidence_intervals`` and ``settings``; for
    ``llana``, whose file has nothing else, they stand beside it in ``<path>.settings.json``. `extra` goes with them."""
    keys = ("object_id", "ground_truth", "model_output", "scores")
    content: dict[str, Any] = {
        "overall_scores": {name: f"{value:.4f}" for name, value in scores["overall_scores"].items()},
        "results": [{key: record[key] for key in keys} for record in scores["results"]],
    }
    about = {**{key: scores[key] for key in ("confidence_intervals", "settings")}, **(extra or {})}
    if scores["settings"]["protocol"] == "llana":
        write_json(about, f"{os.fspath(path)}.settings.json")
    else:
        content |= about
    write_json(content, path)


def scores_path(results: StrPath) -> Path:
    """Where the published evaluator puts the scores of a result file: beside it."""
    path = Path(results)
    return path.with_name(path.stem + SUFFIX)


def _check(records: Sequence[Record]) -> None:
    if not records:
        raise ValueError("no records to score; expected at least one")
    problems = [(i, problem) for i, record in enumerate(records) if (problem := record_problem(record)) is not None]
    if problems:
        shown = "; ".join(f"record {i}: {problem}" for i, problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(f"{len(problems)} of {len(records)} records cannot be scored: {shown}{more}")


def _about(settings: ScoreSettings) -> dict[str, Any]:
    """The settings as JSON; models that were not used are None."""
    about = asdict(settings) | {"metrics": list(settings.metrics)}
    for key, metric in (("sbert_model", SBERT_NAME), ("simcse_model", SIMCSE_NAME)):
        if metric not in settings.metrics:
            about[key] = None
    return about


def _name(model: Model, default: str) -> str:
    if model is None:
        return default
    return model.name if isinstance(model, TextEmbedder) else os.fspath(model)


def _by_record(results: Sequence[Record]) -> dict[tuple[Any, ...], Mapping[str, float]]:
    """The scores of each record by what it is about, and which of its equals it is."""
    found: dict[tuple[Any, ...], Mapping[str, float]] = {}
    for record in results:
        key, number = record_key(record), 0
        while (*key, number) in found:
            number += 1
        found[(*key, number)] = record["scores"]
    return found


def _counter(stage: str, total: int, progress: Progress) -> Callable[[float], None]:
    done = 0.0

    def step(count: float) -> None:
        nonlocal done
        done += count
        progress(stage, int(done), total)

    return step
