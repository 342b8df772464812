"""The model that ships, packed from a run on a backbone of its own; and how sure it is, measured and written into it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from llana_gmn import load_model
from llana_gmn.assembly.assemble import assemble_on
from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer
from llana_gmn.checkpoints.backbone_adapters import complete_adapter
from llana_gmn.default.model_packing import pack_model
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.stages import prepare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What training writes, untrained."""
    root = tmp_path_factory.mktemp("run")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_text_config(len(tokenizer))).save_pretrained(root / "llama")
    tokenizer.save_pretrained(root / "llama")
    encoder = GmnEncoder(GmnConfig(hidden_dim=16, embedding_dim=32))
    model, processor = assemble_on(str(root / "llama"), encoder=encoder, projector_hidden_sizes=[16])
    adapted = prepare(model, TrainingRecipe(stage=2, lora_rank=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(root / "run")
    complete_adapter(adapted.get_base_model(), root / "run")
    processor.save_pretrained(root / "run")
    (root / "run" / "checkpoint-1").mkdir()
    return root / "run"


def test_half_the_bytes_and_nothing_of_the_run(run, nerfs, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("a card")
    out = tmp_path / "model"
    assert pack_model(model=run, out=out, card=card) == sum(
        each.stat().st_size for each in out.rglob("*") if each.is_file()
    )
    assert {each.dtype for each in load_file(out / "adapter_model.safetensors").values()} == {torch.float16}
    assert not (out / "checkpoint-1").exists()
    pack_model(model=run, out=out)
    assert (out / "README.md").read_text() == "a card"
    inputs = None
    logits = []
    for path in (run, out):
        model, processor = load_model(path)
        inputs = processor(nerfs=nerfs[0], text="USER: <nerf>\nWhat? ASSISTANT:", return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**inputs).logits)
    torch.testing.assert_close(*logits, rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="is no adapter that brings all but its backbone"):
        pack_model(model=run.parent / "llama", out=out)
    assert json.loads((out / "config.json").read_text())["backbone"] == str(run.parent / "llama")
