"""The checkpoint that `scripts/llana_round_trip.py` sends to LLaNA's versions; the script itself needs a package index."""

from __future__ import annotations

import json

import pytest
import torch

from llana_gmn.assembly.tiny import tiny_corpus
from llana_gmn.checkpoints.files import read_weights
from llana_gmn.conversion import round_trip
from llana_gmn.conversion.convert import convert
from llana_gmn.conversion.published import PublishedConfig, PublishedLlana


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    pytest.importorskip("sentencepiece")
    monkeypatch.setattr(round_trip, "_lines", lambda: iter(tiny_corpus()))
    round_trip.write_checkpoint(tmp_path, vocab_size=600)
    return tmp_path


def test_what_is_sent_is_a_llana_checkpoint(checkpoint):
    assert json.loads((checkpoint / "llana" / "added_tokens.json").read_text()) == {
        "<point_patch>": 600,
        "<point_start>": 601,
        "<point_end>": 602,
    }
    convert(checkpoint / "llana", checkpoint / "again")
    first, second = (dict(read_weights(checkpoint / name)) for name in ("ours", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_published_model_gives_our_logits(checkpoint):
    """`published.py`'s model, here with our transformers."""
    config = PublishedConfig(**json.loads((checkpoint / "llana" / "config.json").read_text()))
    theirs = PublishedLlana(config).eval()
    theirs.load_state_dict(dict(read_weights(checkpoint / "llana")))
    vecs = torch.randn(2, 1024)
    ours = round_trip.LlanaGmnForConditionalGeneration.from_pretrained(checkpoint / "ours").eval()
    processor = round_trip.LlanaGmnProcessor.from_pretrained(checkpoint / "ours")
    for text in round_trip.PROMPTS:
        ids = processor.tokenizer(text, return_tensors="pt")["input_ids"]
        expected = theirs.logits(ids, vecs[: int((ids == 601).sum())], 601)
        assert round_trip._difference(ours, processor, text, vecs, expected) < 1e-5


def test_an_environment_that_cannot_be_made_says_why():
    with pytest.raises(RuntimeError, match="ended with 1: no index"):
        round_trip._run(["python", "-c", "raise SystemExit('no index')"])
