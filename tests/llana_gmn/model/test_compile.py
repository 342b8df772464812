"""`torch.compile` and `torch.export` of tiny models. Graphs run as they were traced: machine code of them takes minutes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch._dynamo
from datasets import Dataset
from transformers import BloomConfig, Gemma2Config, GPT2Config, GraniteConfig, OPTConfig, Trainer, TrainingArguments

from llana_gmn.assembly.tiny import tiny_model

SIZES = {"vocab_size": 640, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
BACKBONES = [
    None,
    Gemma2Config(**SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0),
    OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=16),
    GraniteConfig(**SIZES, intermediate_size=64, logits_scaling=3.0),
    GPT2Config(vocab_size=640, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    BloomConfig(vocab_size=640, hidden_size=32, n_layer=2, n_head=4),
]


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def batches(processor, nerfs, model):
    def of(things):
        return dict(processor(nerfs=[[things[0]], [things[1], things[2]]], text=TEXTS, return_tensors="pt"))

    return {"nerfs": of(nerfs), "embeddings": of(list(model.encode(nerfs)))}


TEXTS = ["<nerf>\nWhat is it?", "<nerf><nerf> Which of the two?"]


@pytest.mark.parametrize("training", [False, True])
def test_at_most_three_breaks(tiny, batches, training):
    model = copy.deepcopy(tiny[0]).train(training)
    text = {key: value for key, value in batches["nerfs"].items() if not key.startswith("nerf")}
    text["input_ids"] = text["input_ids"].masked_fill(text["input_ids"] == tiny[1].nerf_token_id, 5)
    for inputs, most in ((batches["nerfs"], 3), (batches["embeddings"], 0), (text, 0)):
        labels = {"labels": inputs["input_ids"]} if training else {}
        torch._dynamo.reset()
        found = torch._dynamo.explain(model)(**inputs, **labels)
        assert found.graph_break_count <= most, [reason.reason for reason in found.break_reasons]


def test_placeholders_are_counted_in_the_graph(tiny, batches):
    compiled = torch.compile(tiny[0], backend="eager", fullgraph=True)
    inputs = batches["embeddings"]
    torch.testing.assert_close(compiled(**inputs).logits, tiny[0](**inputs).logits)
    ids = inputs["input_ids"].masked_fill(inputs["input_ids"] == tiny[1].nerf_token_id, 5)
    with pytest.raises(RuntimeError, match="placeholders are not those of their NeRFs"):
        compiled(**{**inputs, "input_ids": ids})


@pytest.mark.parametrize("text_config", BACKBONES, ids=lambda config: config.model_type if config else "llama")
def test_the_full_graph_is_promised_where_it_is_one(text_config, nerfs):
    model, processor = tiny_model(text_config)
    inputs = processor(nerfs=[model.encode(nerfs[:1])[0]], text="<nerf> What?", return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits
        assert torch.equal(model.get_backbone()(inputs_embeds=_inserted(model, inputs)).logits, expected)
        if model._can_compile_fullgraph:
            compiled = torch.compile(model, backend="eager", fullgraph=True)
            torch.testing.assert_close(compiled(**inputs).logits, expected)
    assert model._can_compile_fullgraph == model.language_model._can_compile_fullgraph


def _inserted(model, inputs):
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    features = model.get_nerf_features(nerf_embeddings=inputs["nerf_embeddings"]).pooler_output
    return embeds.masked_scatter(model.model.get_placeholder_mask(inputs["input_ids"], None, features), features)


def test_export_of_a_forward_with_embeddings(tiny, batches, nerfs):
    model = tiny[0]
    ids = batches["embeddings"]["input_ids"][:1]
    for inputs in (batches["embeddings"], {"input_ids": ids, "nerf_embeddings": model.encode(nerfs[:1])[None]}):
        inputs = {**inputs, "use_cache": False}
        program = torch.export.export(model, (), inputs, strict=False)
        torch.testing.assert_close(program.module()(**inputs).logits, model(**inputs).logits)


def test_the_trainer_compiles(tiny, batches, tmp_path):
    model = copy.deepcopy(tiny[0])
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        torch_compile=True,
        torch_compile_backend="aot_eager",
        use_cpu=True,
        report_to="none",
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=1,
        learning_rate=0.1,
    )
    inputs = {**batches["nerfs"], "labels": batches["nerfs"]["input_ids"]}
    before = model.projector[0].weight.detach().clone()
    rows = Dataset.from_list([{"i": i} for i in range(8)])
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=lambda rows: dict(inputs))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[1] < losses[0]
    assert not torch.equal(model.projector[0].weight, before)
