"""Benchmarks around a language model that reads several tokens a NeRF: it gets tokens, NeRFs are compared by one vector each."""

from __future__ import annotations

import json

import pytest
import torch

from gmn_encoder import Nerf, load_nerf, save_nerf
from llana_eval.captioning.class_naming import NamedObject, nearest_captions
from llana_eval.captioning.user_objects import DESCRIBE
from llana_eval.demo.common import ask_about, embed_families
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.commands import main
from tests.encoder.encoders.moments import MomentsConfig

pytestmark = pytest.mark.usefixtures("moments")


@pytest.fixture
def talker():
    return tiny_model(encoder_config=MomentsConfig(embedding_dim=12, num_tokens=3), nerf_tokens="all")


@pytest.fixture
def data(tmp_path):
    for seed, name in enumerate(("02691156/a", "03001627/b")):
        save_nerf(Nerf.random("MLP-nano", seed=seed), tmp_path / "data" / "mlp" / name)
    (tmp_path / "data" / "test.txt").write_text("02691156/a\n03001627/b\n")
    return tmp_path / "data"


def test_the_demo_embeds_both(talker, data, tmp_path):
    model, processor = talker
    vectors, tokens = (embed_families(model, data, tmp_path, tokens=each)["MLP"] for each in (False, True))
    nerfs = [load_nerf(path) for path in vectors.paths]
    torch.testing.assert_close(vectors.values, model.encode_global(nerfs))
    torch.testing.assert_close(tokens.values, model.encode(nerfs))
    answers = ask_about(model, processor, tokens.values, [DESCRIBE], stage="", progress=lambda *_: None)
    assert len(answers) == 2


@pytest.mark.parametrize("source", ["data", "file"])
def test_zero_shot_classification_reads_tokens(talker, data, tmp_path, source):
    for part in talker:
        part.save_pretrained(tmp_path / "model")
    model, out = str(tmp_path / "model"), str(tmp_path / "tokens.safetensors")
    assert main(["embed", str(data), "--encoder", model, "--tokens", "--out", out]) == 0
    given = ["--data", str(data), "--keep", str(tmp_path / "keep")] if source == "data" else ["--test", out]
    table = tmp_path / "table.json"
    assert main(["classify", "--zero-shot", "--model", model, *given, "--table", str(table)]) == 0
    assert json.loads(table.read_text())


def test_the_nearest_caption_is_by_all_tokens():
    same = torch.ones(2, 3)
    known = [
        NamedObject("a", "mlp", "chair", same * torch.tensor([[1.0], [-1.0]]), "first differs"),
        NamedObject("b", "mlp", "car", 3 * same, "alike"),
    ]
    assert nearest_captions([NamedObject("q", "hash", "car", same)], known) == ["alike"]
