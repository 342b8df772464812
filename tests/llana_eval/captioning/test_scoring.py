from __future__ import annotations

import json

import numpy as np
import pytest

from llana_eval import compare_scores, score_captions, write_scores
from llana_eval.bootstrap import BootstrapSettings
from llana_eval.captioning.metrics import metric_path
from llana_eval.captioning.ngrams import rouge_scores
from llana_eval.captioning.scoring import METRICS, prepared_output, scores_path

from ..conftest import needs_wordnet

FAST = ["bleu-1", "bleu-2", "bleu-3", "bleu-4", "rouge-1", "rouge-2", "rouge-l"]
QUICK = BootstrapSettings(resamples=50)


@pytest.fixture
def records(pairs):
    short = [pair for pair in pairs if len(pair[0]) < 500]  # ROUGE-L of a thousand words takes a second
    return [
        {"object_id": f"o{i}", "question": "What?", "ground_truth": reference, "model_output": text}
        for i, (text, reference) in enumerate([("a red chair " * 30, "a red chair " * 20), *short[:59]])
    ]


def test_full_scores_the_whole_text_and_llana_its_first_200_characters(records):
    cut = [{**record, "model_output": record["model_output"][:200] or "##"} for record in records]
    full = score_captions(cut, FAST, protocol="full", bootstrap=QUICK)
    llana = score_captions(records, FAST, protocol="llana", bootstrap=QUICK)
    assert llana["overall_scores"] == full["overall_scores"]
    assert [each["model_output"] for each in llana["results"]] == [each["model_output"] for each in cut]
    whole = score_captions(records, FAST, bootstrap=QUICK)
    assert whole["overall_scores"] != full["overall_scores"]
    assert prepared_output("", "full") == prepared_output("", "llana") == "##"
    assert prepared_output("x" * 300, "full") == "x" * 300


def test_means_and_per_sample_scores(records):
    found = score_captions(records, ["rouge-l", "bleu-1"], bootstrap=QUICK)
    assert list(found["overall_scores"]) == ["bleu-1", "rouge-l"]  # in the order of the published file
    texts = [prepared_output(record["model_output"], "full") for record in records]
    expected = rouge_scores(texts, [record["ground_truth"] for record in records])["rouge-l"]
    assert [each["scores"]["rouge-l"] for each in found["results"]] == expected
    assert found["overall_scores"]["rouge-l"] == pytest.approx(np.mean(expected))
    low, high = found["confidence_intervals"]["rouge-l"]
    assert low < np.mean(expected) < high
    assert found["settings"]["sbert_model"] is None
    assert found["settings"]["bootstrap"]["seed"] == 0


@needs_wordnet
def test_all_metrics_by_default(records, minilm, simcse):
    stages = {}
    found = score_captions(
        records,
        sbert_model=minilm,
        simcse_model=simcse,
        bootstrap=QUICK,
        progress=lambda stage, done, total: stages.update({stage: (done, total)}),
    )
    assert tuple(found["overall_scores"]) == METRICS
    assert all(0 <= found["overall_scores"][name] <= 100 for name in METRICS)
    assert stages == dict.fromkeys(("BLEU", "ROUGE", "METEOR", "S-BERT", "SimCSE"), (60, 60))
    identical = score_captions(
        [{"object_id": "a", "ground_truth": "a red chair here", "model_output": "a red chair here"}],
        sbert_model=minilm,
        simcse_model=simcse,
    )
    # METEOR's penalty never vanishes: one chunk of four, 0.5 / 4^3.
    assert identical["overall_scores"].pop("meteor") == pytest.approx(100 * (1 - 0.5 / 64))
    assert list(identical["overall_scores"].values()) == pytest.approx([100.0] * 9, abs=1e-4)


def test_the_published_layout(records, tmp_path):
    path = tmp_path / "r_evaluated_traditional.json"
    assert scores_path(tmp_path / "r.json") == path
    found = score_captions(records[:3], FAST, protocol="llana", bootstrap=QUICK)
    write_scores(found, path, extra={"run": {"seed": 4}})
    content = json.loads(path.read_text())
    assert list(content) == ["overall_scores", "results"]
    assert content["overall_scores"] == {name: f"{value:.4f}" for name, value in found["overall_scores"].items()}
    for written, scored in zip(content["results"], found["results"], strict=True):
        assert list(written) == ["object_id", "ground_truth", "model_output", "scores"]
        assert written["scores"] == scored["scores"]
    about = json.loads((tmp_path / "r_evaluated_traditional.json.settings.json").read_text())
    assert about["settings"]["protocol"] == "llana"
    assert about["run"] == {"seed": 4}
    # What was written is a result file again, with the same scores.
    from llana_eval import read_results

    again = score_captions(read_results(path).records, FAST, protocol="llana", bootstrap=QUICK)
    assert again["overall_scores"] == found["overall_scores"]
    write_scores(score_captions(records[:3], FAST, bootstrap=QUICK), path)
    assert list(json.loads(path.read_text())) == ["overall_scores", "results", "confidence_intervals", "settings"]


def test_comparison_matches_records_in_any_order(records):
    better = [{**record, "model_output": record["ground_truth"]} for record in records]
    first = score_captions(better, ["bleu-1", "rouge-l"], bootstrap=QUICK)
    second = score_captions(records[::-1], ["rouge-l", "bleu-2"], bootstrap=QUICK)
    found = compare_scores(first, second, bootstrap=QUICK)
    assert list(found) == ["rouge-l"]
    each = found["rouge-l"]
    assert each.first == pytest.approx(first["overall_scores"]["rouge-l"])
    assert each.second == pytest.approx(second["overall_scores"]["rouge-l"])
    assert each.interval[0] > 0
    assert each.p_value == pytest.approx(2 / 51)
    twice = [records[5], {**records[5], "model_output": "x"}]
    same = score_captions(twice, ["bleu-1"], bootstrap=QUICK)
    assert compare_scores(same, same)["bleu-1"].difference == 0.0
    with pytest.raises(ValueError, match=r"1 of 60 records are missing in the second results: of objects 'o59'"):
        compare_scores(first, score_captions(records[:-1], ["rouge-l"], bootstrap=QUICK))
    with pytest.raises(ValueError, match=r"1 of 60 records are missing in the first results"):
        compare_scores(score_captions(records[1:], ["rouge-l"], bootstrap=QUICK), second)
    with pytest.raises(ValueError, match="scored with protocol 'full' and 'llana'"):
        compare_scores(first, score_captions(records, ["rouge-l"], protocol="llana", bootstrap=QUICK))


def test_bad_input_is_named():
    good = {"object_id": "a", "ground_truth": "x", "model_output": "y"}
    with pytest.raises(ValueError, match="no records to score"):
        score_captions([])
    with pytest.raises(
        ValueError, match=r"2 of 3 records cannot be scored: record 1: .*model_output is missing.*record 2"
    ):
        score_captions([good, {"object_id": "a", "ground_truth": "x"}, {}], FAST)
    with pytest.raises(ValueError, match="metric 'bleu-5' is unknown; expected of bleu-1"):
        score_captions([good], ["bleu-5"])
    with pytest.raises(ValueError, match="protocol is 'strict'; expected one of llana, full"):
        score_captions([good], FAST, protocol="strict")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("bleu", ["bleu-1", "bleu-2", "bleu-3", "bleu-4"]),
        ("rouge", ["rouge-1", "rouge-2", "rouge-l"]),
        pytest.param("meteor", ["meteor"], marks=needs_wordnet),
        ("sbert", ["sbert_similarity"]),
        ("simcse", ["simcse_similarity"]),
    ],
)
def test_evaluate_modules_load_by_path_and_directly(name, keys, records, minilm, simcse, monkeypatch, tmp_path):
    import importlib

    import evaluate

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    predictions = [record["model_output"] or "##" for record in records]
    references = [record["ground_truth"] for record in records]
    options = {"model": {"sbert": minilm, "simcse": simcse}[name]} if name in ("sbert", "simcse") else {}
    loaded = evaluate.load(str(metric_path(name)), cache_dir=str(tmp_path))
    module = importlib.import_module(f"llana_eval.captioning.metrics.{name}")
    direct = getattr(module, name.capitalize())(cache_dir=str(tmp_path))
    assert isinstance(direct, evaluate.Metric)
    expected = score_captions(records, keys, sbert_model=minilm, simcse_model=simcse, bootstrap=QUICK)
    for metric in (loaded, direct):
        found = metric.compute(predictions=predictions, references=references, **options)
        assert found == pytest.approx(expected["overall_scores"])
    with pytest.raises(ValueError, match="metric module 'x' is unknown"):
        metric_path("x")


def test_evaluate_modules_combine(records):
    import evaluate

    both = evaluate.combine([evaluate.load(str(metric_path(name))) for name in ("bleu", "rouge")])
    found = both.compute(predictions=["a red chair"], references=["a red chair"])
    assert found["bleu-1"] == pytest.approx(100.0)
    assert found["rouge-l"] == pytest.approx(100.0, abs=1e-5)
