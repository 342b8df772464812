"""What `generate` must keep to with every kind of backbone.

The cases are those of transformers' `GenerationTesterMixin`, which its source distribution does not carry, written for prompts
with NeRFs.
"""

from __future__ import annotations

import pytest
import torch
from transformers import CONFIG_MAPPING

from llana_gmn.assembly.tiny import tiny_model

BACKBONES = {
    "llama": {},
    "qwen2": {},
    "gemma2": {"head_dim": 8, "sliding_window": 16},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "mistral": {"head_dim": 8},
}
SIZES = {
    "vocab_size": 640,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,  # answers have the same length
}
NEW = 5


@pytest.fixture(scope="module", params=BACKBONES)
def talk(request, nerfs):
    """(generate, model, inputs) of two prompts of different lengths, with one and two NeRFs."""
    model, processor = tiny_model(CONFIG_MAPPING[request.param](**{**SIZES, **BACKBONES[request.param]}))
    inputs = processor(
        nerfs=[[nerfs[0]], [nerfs[1], nerfs[2]]],
        text=["<nerf>\nWhat is it?", "<nerf><nerf> Which of the two is the taller one?"],
        return_tensors="pt",
    )

    def generate(given=inputs, **options):
        return model.generate(**given, **{"max_new_tokens": NEW, "do_sample": False, **options})

    return generate, model, inputs


@pytest.mark.parametrize(
    "options",
    [{"use_cache": False}, {"cache_implementation": "static"}, {"prompt_lookup_num_tokens": 2}],
)
def test_ways_to_the_same_greedy_answer(talk, options):
    generate, _, inputs = talk
    if "prompt_lookup_num_tokens" in options:  # of one prompt at a time
        inputs = {name: value[1:] for name, value in inputs.items()}
    assert torch.equal(generate(inputs, **options), generate(inputs))


def test_padding_changes_nothing(talk):
    generate, _, inputs = talk
    together = generate()
    for row in range(2):
        seen = inputs["attention_mask"][row].bool()
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        alone |= {name: alone[name][:, seen] for name in ("input_ids", "attention_mask")}
        assert torch.equal(generate(alone)[:, -NEW:], together[row : row + 1, -NEW:])


def test_a_cache_is_continued(talk):
    generate, _, inputs = talk
    whole = generate()
    first = generate(max_new_tokens=2, return_dict_in_generate=True)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 2, dtype=torch.long)], dim=1)
    rest = {**inputs, "input_ids": first.sequences, "attention_mask": mask, "past_key_values": first.past_key_values}
    assert torch.equal(generate(rest, max_new_tokens=NEW - 2), whole)


def test_embeddings_of_the_prompt(talk):
    generate, model, inputs = talk
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    given = {**inputs, "inputs_embeds": embeds}
    assert torch.equal(generate(given), generate())


def test_dictionaries_hold_a_step_each(talk):
    generate, model, _ = talk
    before = model.language_model.config._attn_implementation
    model.set_attn_implementation("eager")
    found = generate(
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        output_hidden_states=True,
        output_attentions=True,
    )
    model.set_attn_implementation(before)
    for steps in (found.scores, found.logits, found.hidden_states, found.attentions):
        assert len(steps) == NEW
    assert found.logits[0].shape == (2, model.config.get_text_config().vocab_size)
    assert [len(step) for step in found.hidden_states] == [3] * NEW
    assert [len(step) for step in found.attentions] == [2] * NEW


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True}, {"do_sample": True, "num_beams": 3}])
def test_several_answers(talk, options):
    generate, _, inputs = talk
    torch.manual_seed(0)
    answers = generate(num_return_sequences=2, **options)
    assert answers.shape == (4, inputs["input_ids"].shape[1] + NEW)
    assert torch.equal(answers[:, :-NEW], inputs["input_ids"].repeat_interleave(2, dim=0))


def test_a_model_assists_another(talk):
    generate, model, inputs = talk
    alone = {name: value[:1] for name, value in inputs.items()}
    assert torch.equal(generate(alone, assistant_model=model), generate(alone))
