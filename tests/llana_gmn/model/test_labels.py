"""Logits where something is learned, and nowhere else: the same loss and gradients."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, GPT2Config

from llana_gmn.assembly.tiny import tiny_model, tiny_text_config

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
BACKBONES = {
    "llama": tiny_text_config(),
    "gemma2": Gemma2Config(vocab_size=640, num_key_value_heads=2, head_dim=16, final_logit_softcapping=5.0, **SMALL),
    "gpt2": GPT2Config(vocab_size=640, n_embd=32, n_layer=2, n_head=2),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_same_loss(name):
    model, processor = tiny_model(BACKBONES[name])
    ids = torch.arange(3, 27).reshape(2, 12)
    ids[:, 2] = processor.nerf_token_id
    labels = ids.clone()
    labels[0, :7] = labels[1, :9] = -100
    inputs = {"input_ids": ids, "labels": labels, "nerf_embeddings": torch.randn(2, 32)}
    model.eval()  # some drop out at random
    found = []
    for only in (False, True):
        model.zero_grad()
        output = model(**inputs, logits_at_labels=only)
        output.loss.backward()
        found.append((output.loss.item(), model.projector[0].weight.grad.clone()))
    assert output.logits.shape[:2] == (1, 5 + 3 + 1)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
