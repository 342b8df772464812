"""Commands with a model take the one that ships where none is named."""

from __future__ import annotations

import json

import pytest

from gmn_encoder import Nerf, save_nerf
from llana_eval.captioning.scoring import scores_path
from llana_gmn.commands import main
from llana_gmn.default import objects as defaults


def test_chat_caption_and_evaluate_without_a_model(capsys, tmp_path):
    nerfs = defaults.default_nerfs_path()
    chair = min((nerfs / "hash" / "03001627").iterdir())
    assert main(["chat", "--nerf", str(chair), "--question", "What kind of object is this?"]) == 0
    answer = capsys.readouterr().out.strip()
    assert answer.endswith(".")
    captions = tmp_path / "captions.jsonl"
    asked = ["--question", "What kind of object is this?", "--out", str(captions)]
    save_nerf(Nerf.random("MLP-nano", seed=0), tmp_path / "empty.pth")
    assert main(["caption", str(chair), str(tmp_path / "empty.pth"), *asked]) == 1
    assert "empty.pth: there is nothing to see in it" in capsys.readouterr().err  # instead of a guess
    (record,) = [json.loads(line) for line in captions.read_text().splitlines() if "caption" in json.loads(line)]
    assert record["caption"] == answer
    assert 0 < record["probability"] <= 1 and record["unsure"] in (True, False)  # it is calibrated
    of = ["--data", str(nerfs), "--task", "single_round", "--family", "hash", "--limit", "2", "--metrics", "bleu-1"]
    assert main(["evaluate", *of, "--gallery", "0", "--out", str(tmp_path / "results")]) == 0
    scores = json.loads(scores_path(tmp_path / "results" / "single_round_hash.json").read_text())
    assert scores["run"]["model"] == str(defaults.default_model_path())
    assert float(scores["overall_scores"]["bleu-1"]) > 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", "--question", "What is it?"],
        ["caption", "x", "--out", "OUT"],
        ["evaluate", "--data", "x", "--task", "brief_description", "--out", "OUT"],
        ["serve"],
        ["demo", "--out", "OUT"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_copy_without_it_says_so(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(defaults, "_DEFAULT", tmp_path)
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main([each.replace("OUT", str(tmp_path / "out")) for each in arguments]) == 1
    assert "does not ship with this copy of the package; name one with --model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_model_names_no_place_of_the_machine_that_made_it():
    values = [*_values(json.loads((defaults.default_model_path() / "config.json").read_text()))]
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in values
    assert not [value for value in values if isinstance(value, str) and value.startswith("/")]


def _values(content):
    for value in content.values():
        yield from _values(value) if isinstance(value, dict) else [value]
