"""The benchmark of scoring in its tiny form."""

import pytest

from llana_eval.captioning import bench
from llana_eval.captioning.wordnet import find_wordnet

METRICS = ["BLEU", "ROUGE", "S-BERT", *(["METEOR"] if find_wordnet() is not None else []), "all"]


def test_tiny_run_scores_both_ways(minilm):
    (result,) = bench.bench(**bench.TINY, sbert_model=minilm, device="cpu")
    (run,) = result.figures["runs"]
    assert (run["kind"], run["predictions"], run["one_by_one_measured_on"]) == ("brief_description", 4, 2)
    assert list(run["metrics"]) == METRICS
    for key in ("one_by_one_cpu_s", "batched_cpu_s"):
        parts = [metric[key] for name, metric in run["metrics"].items() if name != "all"]
        assert run["metrics"]["all"][key] == pytest.approx(sum(parts))
    assert len(result.text.splitlines()) == 2 + len(METRICS)


def test_a_prediction_is_about_another_object_of_the_same_class():
    pairs = bench.pairs_of("brief_description", 20)
    assert len(pairs) == 20 and all(prediction != reference for prediction, reference in pairs)
    assert pairs == bench.pairs_of("brief_description", 20)
