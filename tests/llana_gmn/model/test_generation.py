"""`generate` on tiny models: one encoding, and the same tokens whatever a prompt is batched with."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, TextIteratorStreamer, pipeline

from llana_gmn import LlanaGmnForConditionalGeneration
from llana_gmn.assembly.tiny import tiny_model

PROMPTS = [
    ("<nerf>\nWhat is this object?", [0]),
    ("Hello.", []),
    ("<nerf>\n<nerf>\nWhich of the two is taller?", [2, 1]),
    ("USER: <nerf> and a much longer question about its colour, its shape and its legs? ASSISTANT:", [1]),
    ("<nerf>\nWhat is this object?", [2]),
]
GREEDY = {"max_new_tokens": 12, "do_sample": False}


def inputs_of(processor, nerfs, prompts=PROMPTS):
    return processor(
        nerfs=[[nerfs[i] for i in places] for _, places in prompts],
        text=[text for text, _ in prompts],
        return_tensors="pt",
    )


def new_tokens(model, inputs, **options):
    return model.generate(**inputs, **{**GREEDY, **options})[:, inputs["input_ids"].shape[1] :]


def until_end(row, eos=2):
    row = row.tolist()
    return row[: row.index(eos)] if eos in row else row


@pytest.fixture
def calls(model, monkeypatch):
    """How many NeRFs went through the encoder, call by call."""
    counted = []
    encode = type(model.nerf_encoder).encode

    def count(self, nerfs, **options):
        counted.append(len(nerfs))
        return encode(self, nerfs, **options)

    monkeypatch.setattr(type(model.nerf_encoder), "encode", count)
    return counted


def test_prefill_equals_embeddings_put_in_by_hand(model, processor, nerfs):
    inputs = processor(nerfs=[nerfs[1], nerfs[0]], text="<nerf> or <nerf>?", return_tensors="pt")
    embeds = model.get_input_embeddings()(inputs["input_ids"]).clone()
    places = (inputs["input_ids"][0] == processor.nerf_token_id).nonzero().flatten().tolist()
    for place, nerf in zip(places, [nerfs[1], nerfs[0]], strict=True):
        embeds[0, place] = model.projector(model.nerf_encoder.encode([nerf]))[0]
    expected = model.get_backbone().generate(inputs_embeds=embeds, attention_mask=inputs["attention_mask"], **GREEDY)
    assert torch.equal(new_tokens(model, inputs), expected)
    logits = model(**inputs).logits
    torch.testing.assert_close(logits, model.get_backbone()(inputs_embeds=embeds).logits, rtol=0, atol=1e-5)


def test_each_nerf_changes_the_answer(model, processor, nerfs):
    logits = [model(**processor(nerfs=[n], text="<nerf>\nWhat?", return_tensors="pt")).logits[0, -1] for n in nerfs]
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert (logits[1] - logits[2]).abs().max() > 1e-3


def test_mixed_batches_equal_single_runs_token_for_token(model, processor, nerfs):
    batch = new_tokens(model, inputs_of(processor, nerfs))
    for row, prompt in zip(batch, PROMPTS, strict=True):
        single = new_tokens(model, inputs_of(processor, nerfs, [prompt]))[0]
        assert until_end(row) == until_end(single)


def test_the_encoder_runs_once(model, processor, nerfs, calls):
    new_tokens(model, inputs_of(processor, nerfs), num_beams=3)
    assert calls == [5]
    new_tokens(model, inputs_of(processor, nerfs), use_cache=False)
    assert calls == [5, 5]
    new_tokens(model, inputs_of(processor, nerfs, PROMPTS[1:2]))
    assert calls == [5, 5]


@pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_the_cache_changes_nothing(model, processor, nerfs, options):
    inputs = inputs_of(processor, nerfs)
    expected = new_tokens(model, inputs)
    if "cache_implementation" in options:
        options = {**options, "disable_compile": True}
    assert torch.equal(new_tokens(model, inputs, **options), expected)


def test_a_placeholder_the_backbone_writes_is_a_token_like_others(model, processor, nerfs):
    class Force(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return (
                scores.index_fill(1, torch.tensor([processor.nerf_token_id]), 1e4) if input_ids.shape[1] % 2 else scores
            )

    inputs = inputs_of(processor, nerfs)
    force = LogitsProcessorList([Force()])
    cached = new_tokens(model, inputs, logits_processor=force)
    assert (cached == processor.nerf_token_id).any()
    assert torch.equal(new_tokens(model, inputs, logits_processor=force, use_cache=False), cached)


@pytest.mark.parametrize(
    "options", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"num_beams": 2, "use_cache": False}]
)
def test_beams_in_batches_equal_single_runs(model, processor, nerfs, options):
    returned = options.get("num_return_sequences", 1)
    batch = new_tokens(model, inputs_of(processor, nerfs), **options)
    assert len(batch) == len(PROMPTS) * returned
    for i, prompt in enumerate(PROMPTS):
        single = new_tokens(model, inputs_of(processor, nerfs, [prompt]), **options)
        for a, b in zip(batch[i * returned : (i + 1) * returned], single, strict=True):
            assert until_end(a) == until_end(b)


def test_sampling_and_return_sequences(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs)
    options = {"do_sample": True, "num_return_sequences": 3, "top_k": 0}
    torch.manual_seed(0)
    first = new_tokens(model, inputs, **options)
    torch.manual_seed(0)
    assert torch.equal(new_tokens(model, inputs, **options), first)
    assert first.shape[0] == 15
    assert len({tuple(row.tolist()) for row in first[:3]}) > 1
    # At a temperature near zero each of a prompt's sequences is its greedy one: none got another prompt's NeRF.
    cold = new_tokens(model, inputs, **options, temperature=1e-7)
    greedy = new_tokens(model, inputs)
    for i, row in enumerate(cold):
        assert until_end(row) == until_end(greedy[i // 3])


def test_embeddings_in_place_of_nerfs_give_the_same_tokens(model, processor, nerfs, calls):
    inputs = inputs_of(processor, nerfs)
    expected = new_tokens(model, inputs)
    rows = model.encode(nerfs)
    embedded = inputs_of(processor, list(rows))
    assert "nerf_weights" not in embedded
    mixed = inputs_of(processor, [nerfs[0], rows[1].numpy(), nerfs[2]])
    calls.clear()
    assert torch.equal(new_tokens(model, embedded), expected)
    assert calls == []
    assert torch.equal(new_tokens(model, mixed), expected)
    assert calls == [3]
    plain = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    flat = torch.stack([rows[i] for _, places in PROMPTS for i in places])
    assert torch.equal(new_tokens(model, plain, nerf_embeddings=flat, num_beams=1), expected)
    one = inputs_of(processor, nerfs, PROMPTS[:1])
    llana = {"input_ids": one["input_ids"], "nerf_embeddings": rows[:1, None]}  # LLaNA's vecs: (B, 1, 1024)
    assert torch.equal(new_tokens(model, llana), new_tokens(model, one))


def test_flat_embeddings_follow_their_prompts_through_beams(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs)
    flat = torch.stack([model.encode(nerfs)[i] for _, places in PROMPTS for i in places])
    plain = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    assert torch.equal(
        new_tokens(model, plain, nerf_embeddings=flat, num_beams=3), new_tokens(model, inputs, num_beams=3)
    )


def test_streamers(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs, PROMPTS[:1])
    streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    ids = new_tokens(model, inputs, streamer=streamer)
    assert "".join(streamer) == processor.tokenizer.decode(ids[0], skip_special_tokens=True)


def test_a_cache_is_continued_with_another_nerf(model, processor, nerfs, calls):
    first = processor(nerfs=[nerfs[0]], text="USER: <nerf>\nWhat is this?", return_tensors="pt")
    cache = DynamicCache(config=model.config.get_text_config())
    answer = model.generate(**first, past_key_values=cache, **GREEDY)
    more = processor(nerfs=[nerfs[2]], text="And <nerf>?", return_tensors="pt", add_special_tokens=False)
    ids = torch.cat([answer, more["input_ids"]], dim=1)
    both = processor(nerfs=[nerfs[0], nerfs[2]], text="<nerf><nerf>", return_tensors="pt")
    nerf_inputs = {key: value for key, value in both.items() if key.startswith("nerf")}
    turn = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **nerf_inputs}
    logits = {"output_logits": True, "return_dict_in_generate": True}
    continued = model.generate(**turn, **GREEDY, **logits, past_key_values=cache)
    whole = model.generate(**turn, **GREEDY, **logits)
    assert torch.equal(continued.sequences, whole.sequences)
    torch.testing.assert_close(continued.logits[0], whole.logits[0], rtol=0, atol=1e-5)
    swapped = processor(nerfs=[nerfs[0], nerfs[0]], text="<nerf><nerf>", return_tensors="pt")
    other = model.generate(**{**turn, **{key: swapped[key] for key in nerf_inputs}}, **GREEDY, **logits)
    assert (other.logits[0] - whole.logits[0]).abs().max() > 1e-3
    # A turn without a new NeRF need not bring the old ones again.
    text = processor(text="Really?", return_tensors="pt", add_special_tokens=False)["input_ids"]
    cache = DynamicCache(config=model.config.get_text_config())
    ids = torch.cat([model.generate(**first, past_key_values=cache, **GREEDY), text], dim=1)
    turn = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    old = {key: value for key, value in first.items() if key.startswith("nerf")}
    assert torch.equal(new_tokens(model, turn, past_key_values=cache), new_tokens(model, {**turn, **old}))


def test_scores_and_dictionaries(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs)
    out = model.generate(**inputs, **GREEDY, output_logits=True, return_dict_in_generate=True)
    first = model(**inputs).logits[:, -1]
    torch.testing.assert_close(out.logits[0][[0, 2]], first[[0, 2]], rtol=0, atol=1e-4)


def test_prompts_and_nerfs_that_do_not_fit_are_refused(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs, PROMPTS[:1])
    plain = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="hold 1 NeRF placeholders, but 0 NeRFs were passed"):
        model.generate(**plain, **GREEDY)
    two = inputs_of(processor, nerfs, PROMPTS[2:3])
    with pytest.raises(ValueError, match=r"prompt 0 has 2 NeRFs \(2 tokens\) but 1 placeholder"):
        model.generate(**{**two, **plain}, **GREEDY)
    with pytest.raises(ValueError, match="3 NeRF embeddings were passed for 1 placeholders"):
        model.generate(**plain, nerf_embeddings=torch.zeros(3, 32), **GREEDY)
    with pytest.raises(ValueError, match="have size 1024; this model's projector reads 32"):
        model.generate(**plain, nerf_embeddings=torch.zeros(1, 1024), **GREEDY)
    with pytest.raises(ValueError, match="NeRFs of 2 prompts came with 1 prompts"):
        model.generate(**{**inputs_of(processor, nerfs, [PROMPTS[0], PROMPTS[2]]), **plain}, **GREEDY)
    with pytest.raises(ValueError, match="cannot be read in chunks"):
        model.generate(**inputs, prefill_chunk_size=4, **GREEDY)


def test_pipeline(model, processor, nerfs, tmp_path):
    np.save(tmp_path / "z.npy", model.encode(nerfs[:1]).numpy())
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    talk = pipeline("any-to-any", model=str(tmp_path / "m"), device="cpu")
    assert isinstance(talk.model, LlanaGmnForConditionalGeneration)
    messages = [
        {
            "role": "user",
            "content": [{"type": "nerf", "path": str(tmp_path / "z.npy")}, {"type": "text", "text": "What?"}],
        }
    ]
    (result,) = talk(messages, max_new_tokens=8, return_full_text=False, generate_kwargs={"do_sample": False})
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = new_tokens(model, inputs, max_new_tokens=8)
    assert result["generated_text"].strip() == processor.decode(ids[0], skip_special_tokens=True).strip()


def test_a_model_of_ours_assists_another(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs, PROMPTS[:1])
    expected = new_tokens(model, inputs)
    assert torch.equal(new_tokens(model, inputs, assistant_model=copy.deepcopy(model)), expected)
    other = tiny_model(seed=1)[0]  # proposes other tokens, which are refused
    assert torch.equal(new_tokens(model, inputs, assistant_model=other), expected)


def test_embeddings_of_prompts(model, processor, nerfs):
    inputs = inputs_of(processor, nerfs)
    expected = new_tokens(model, inputs)
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach()
    logits = model(**inputs).logits
    ids = inputs.pop("input_ids")
    for given in ({"inputs_embeds": embeds}, {"inputs_embeds": embeds, "input_ids": ids}):
        generated = model.generate(**inputs, **given, **GREEDY)
        assert torch.equal(generated[:, -expected.shape[1] :], expected)
    torch.testing.assert_close(model(**inputs, inputs_embeds=embeds).logits, logits)
    # The NeRFs may stand in them already.
    features = model.get_nerf_features(
        **{key: value for key, value in inputs.items() if key.startswith("nerf")}
    ).pooler_output
    mask = model.model.get_placeholder_mask(ids, None, features)
    whole = embeds.masked_scatter(mask, features)
    rest = {"attention_mask": inputs["attention_mask"]}
    for given in ({"inputs_embeds": whole}, {"inputs_embeds": whole, "input_ids": ids}):
        generated = model.generate(**rest, **given, **GREEDY)
        assert torch.equal(generated[:, -expected.shape[1] :], expected)
    with pytest.raises(ValueError, match="tokens: 5, features: 4"):
        model.model.get_placeholder_mask(ids, None, features[:4])


def test_prompt_tuning(tiny, nerfs):
    model, processor = copy.deepcopy(tiny[0]), tiny[1]
    inputs = inputs_of(processor, nerfs)
    tuned = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    loss = tuned(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    assert tuned.prompt_encoder["default"].embedding.weight.grad.abs().sum() > 0
    generated = tuned.generate(**inputs, **GREEDY)
    assert generated.shape[0] == len(PROMPTS)
    first = tuned(**inputs).logits[:, -1].argmax(dim=-1)
    assert torch.equal(generated[:, inputs["input_ids"].shape[1]], first)


def test_the_placeholder_is_never_generated(tiny, nerfs):
    model, processor = copy.deepcopy(tiny[0]), tiny[1]
    inputs = inputs_of(processor, nerfs)
    with torch.no_grad():  # the head favours the placeholder, then token 7
        head = torch.nn.Linear(32, model.lm_head.out_features)
        head.weight.zero_()
        head.bias[processor.nerf_token_id], head.bias[7], head.bias[8] = 3.0, 2.0, 1.0
    model.set_output_embeddings(head)
    assert (new_tokens(model, inputs) == 7).all()
    assert (new_tokens(model, inputs, suppress_tokens=[7]) == 8).all()
    model.generation_config.suppress_tokens = [7]
    assert (new_tokens(model, inputs) == 8).all()
    assert model.generation_config.suppress_tokens == [7]
