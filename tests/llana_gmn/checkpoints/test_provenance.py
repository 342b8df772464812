"""The fingerprint of a model follows what it says, and nothing else in its directory."""

from __future__ import annotations

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model

from llana_gmn import LlanaGmnForConditionalGeneration
from llana_gmn.checkpoints.provenance import model_fingerprint


@pytest.fixture
def saved(tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_it_is_of_the_content(saved, tmp_path):
    first = model_fingerprint(saved)
    copied = shutil.copytree(saved, tmp_path / "copy", copy_function=shutil.copyfile)  # other dates
    (copied / "README.md").write_text("other words")
    (copied / "brief_description_hash.json").write_text("[]")
    assert model_fingerprint(copied) == first
    seen = {first}
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        (copied / name).write_text((copied / name).read_text() + " ")
        seen.add(model_fingerprint(copied))
    assert len(seen) == 5


def test_shards_and_bases_of_adapters_count(saved, tiny, tmp_path):
    model, _ = tiny
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) > 1
    before = model_fingerprint(tmp_path / "sharded")
    shards[-1].write_bytes(shards[-1].read_bytes()[:-1] + b"\x01")
    assert model_fingerprint(tmp_path / "sharded") != before

    base = LlanaGmnForConditionalGeneration.from_pretrained(saved)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    before = model_fingerprint(tmp_path / "adapter")
    with torch.no_grad():
        base.projector[0].weight.mul_(2)
    changed = {key: value for key, value in base.state_dict().items() if "lora_" not in key}
    base.save_pretrained(saved, state_dict={key.replace(".base_layer", ""): changed[key] for key in changed})
    assert model_fingerprint(tmp_path / "adapter") != before


def test_a_name_on_the_hub_is_its_revision(saved, tmp_path, monkeypatch):
    """A cache as `huggingface_hub` lays it out, with two revisions."""
    cache = tmp_path / "hub" / "models--somebody--llana"
    for revision in ("1" * 40, "2" * 40):
        shutil.copytree(saved, cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = []
    for revision in ("1" * 40, "2" * 40):
        (cache / "refs" / "main").write_text(revision)
        found.append(model_fingerprint("somebody/llana"))
    assert found[0] != found[1]
