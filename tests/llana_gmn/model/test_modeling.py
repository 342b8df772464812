from __future__ import annotations

import copy
import json

import pytest
import torch
from accelerate import disk_offload
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    BloomConfig,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    MixtralConfig,
    ModernBertDecoderConfig,
    Qwen2Config,
)
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from llana_gmn import LlanaGmnConfig, LlanaGmnForConditionalGeneration, assemble
from llana_gmn.assembly.tiny import tiny_model, tiny_text_config, tiny_tokenizer
from llana_gmn.checkpoints.loading import load_adapter, load_model, quantization_config
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.stages import prepare


def batch(processor, nerfs, **options):
    return processor(
        nerfs=[[nerfs[0]], [], [nerfs[1], nerfs[2]]],
        text=["<nerf>\nWhat is it?", "Hello there, you.", "<nerf><nerf> Which?"],
        return_tensors="pt",
        **options,
    )


@pytest.mark.parametrize("auto", [AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM])
def test_save_and_load_through_the_auto_classes(model, processor, nerfs, tmp_path, auto):
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert isinstance(loaded, LlanaGmnForConditionalGeneration)
    assert loaded.config._attn_implementation == "sdpa"
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )
    torch.testing.assert_close(loaded(**batch(processor, nerfs)).logits, model(**batch(processor, nerfs)).logits)


def test_the_encoder_is_saved_with_the_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    for key, tensor in model.nerf_encoder.state_dict().items():
        assert torch.equal(saved[f"model.nerf_encoder.{key}"], tensor)


def test_the_encoder_stays_frozen_and_in_evaluation_mode(tiny, nerfs):
    model, processor = copy.deepcopy(tiny[0]), tiny[1]
    model.train()
    assert model.training and model.projector.training
    assert not any(module.training for module in model.nerf_encoder.modules())
    model.requires_grad_(True)
    model.nerf_encoder.requires_grad_(True)
    before = {key: tensor.clone() for key, tensor in model.nerf_encoder.state_dict().items()}
    assert len(before) == 74
    assert not any("nerf_encoder" in name for name, _ in model.named_parameters())
    inputs = batch(processor, nerfs, padding_side="right")
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.nerf_encoder.state_dict().items())
    assert not any(tensor.requires_grad for tensor in model.nerf_encoder.state_dict(keep_vars=True).values())
    assert all(parameter.grad is not None for parameter in model.projector.parameters())
    assert model.projector[0].weight.grad.abs().sum() > 0


def test_other_weights_give_other_embeddings(tiny, nerfs):
    model = copy.deepcopy(tiny[0])
    first = model.encode(nerfs)
    state = {key: tensor * 1.5 for key, tensor in model.nerf_encoder.state_dict().items()}
    model.nerf_encoder.load_state_dict(state)
    second = model.encode(nerfs)
    assert (first - second).abs().max() > 1e-3
    reference = GmnEncoder(model.config.encoder_config)
    reference.load_state_dict(state)
    torch.testing.assert_close(second, reference.encode(nerfs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casts_leave_the_encoder_in_float32(tiny, nerfs, tmp_path, dtype):
    model = copy.deepcopy(tiny[0])
    weights, embeddings = model.nerf_encoder.fingerprint(), model.encode(nerfs)
    cast = model.to(dtype)
    assert cast.dtype == cast.projector[0].weight.dtype == dtype
    assert cast.nerf_encoder.dtype == torch.float32
    assert cast.nerf_encoder.fingerprint() == weights
    torch.testing.assert_close(cast.encode(nerfs), embeddings)
    cast.save_pretrained(tmp_path)
    loaded = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.dtype == dtype
    assert loaded.nerf_encoder.fingerprint() == weights
    torch.testing.assert_close(loaded.encode(nerfs), embeddings)
    again = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    assert again.dtype == torch.float32
    built = LlanaGmnForConditionalGeneration._from_config(model.config, dtype=dtype)
    assert (built.nerf_encoder.dtype, built.language_model.dtype) == (torch.float32, dtype)


def test_casts_on_the_meta_device_and_back_up(tiny):
    with torch.device("meta"):
        model = LlanaGmnForConditionalGeneration(tiny[0].config)
    model.bfloat16()
    assert model.nerf_encoder.dtype == torch.float32
    assert model.to_empty(device="cpu").nerf_encoder.device.type == "cpu"
    assert copy.deepcopy(tiny[0]).double().nerf_encoder.dtype == torch.float64


def test_half_precision_runs_and_autocast_does_not_reach_the_encoder(tiny, nerfs):
    model, processor = copy.deepcopy(tiny[0]), tiny[1]
    expected = model.encode(nerfs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model.encode(nerfs), expected)
        model(**batch(processor, nerfs))
    ids = model.bfloat16().generate(
        **batch(processor, nerfs).to(dtype=torch.bfloat16), max_new_tokens=3, do_sample=False
    )
    assert ids.shape[1] > 3


def test_the_encoders_products_may_run_in_bfloat16(tiny, nerfs):
    model = copy.deepcopy(tiny[0])
    exact = model.encode(nerfs)
    model.config.encoder_dtype = "bfloat16"
    half = model.encode(nerfs)
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def test_quantisers_leave_the_encoder_alone(model):
    for whole in (model, model.model):
        skipped = HfQuantizer.get_modules_to_not_convert(whole, None, whole._keep_in_fp32_modules)
        linear = [name for name, module in whole.named_modules() if "Linear" in type(module).__name__]
        converted = {name for name in linear if should_convert_module(name, skipped)}
        assert any("language_model" in name for name in converted)
        assert not any("nerf_encoder" in name or "lm_head" in name for name in converted)
    skipped = quantization_config(4).llm_int8_skip_modules
    converted = [name for name, _ in model.named_modules() if should_convert_module(name, skipped)]
    assert not any(
        "nerf_encoder" in name or "projector" in name or "lm_head" in name for name in converted if "." in name
    )


def test_text_only_batches_train_and_keep_the_projector_in_the_graph(tiny):
    model, processor = copy.deepcopy(tiny[0]).train(), tiny[1]
    inputs = processor(text=["Hello there."], return_tensors="pt")
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert model.projector[0].weight.grad.abs().sum() == 0
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, model.get_backbone()(**inputs).logits)


def test_loss_is_the_backbones(model, processor, nerfs):
    inputs = batch(processor, nerfs)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    out = model(**inputs, labels=labels)
    shifted = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(out.loss, shifted)


def test_gradient_checkpointing_gives_the_same_gradients(tiny, nerfs):
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(tiny[0]).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        inputs = batch(tiny[1], nerfs)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        gradients.append(model.projector[2].weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_forward_refuses_what_does_not_fit(model, processor, nerfs):
    inputs = batch(processor, nerfs)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(attention_mask=inputs["attention_mask"])
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    with pytest.raises(ValueError, match="1 NeRF embeddings were passed for 3 placeholders"):
        model(inputs_embeds=embeds, nerf_embeddings=torch.zeros(1, 32))
    with pytest.raises(ValueError, match="hold 3 NeRF placeholders, but 0 NeRFs"):
        model(input_ids=inputs["input_ids"])
    with pytest.raises(ValueError, match=r"prompt 2 has 2 NeRFs .* but 1 placeholder tokens; let the processor expand"):
        cut = {key: inputs[key] for key in inputs if key.startswith("nerf")}
        ids = inputs["input_ids"].clone()
        ids[2, (ids[2] == processor.nerf_token_id).nonzero()[0]] = 5
        model(input_ids=ids, **cut)
    with pytest.raises(ValueError, match="without nerf_architectures"):
        model(input_ids=inputs["input_ids"], nerf_weights=inputs["nerf_weights"])


@pytest.mark.parametrize(
    "text_config",
    [
        GPT2Config(vocab_size=640, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2),
        Qwen2Config(
            vocab_size=700,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        ),
        GemmaConfig(
            vocab_size=640,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=8,
        ),
        GraniteConfig(
            vocab_size=640,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            logits_scaling=3.0,
        ),
        BloomConfig(vocab_size=640, hidden_size=32, n_layer=2, n_head=4),
    ],
    ids=lambda config: config.model_type,
)
def test_any_causal_language_model_is_a_backbone(text_config, nerfs, tmp_path):
    model, processor = tiny_model(text_config)
    assert model.config.get_text_config().model_type == text_config.model_type
    inputs = batch(processor, nerfs)
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    single = processor(nerfs=[nerfs[1], nerfs[2]], text="<nerf><nerf> Which?", return_tensors="pt")
    alone = model.generate(**single, max_new_tokens=5, do_sample=False)
    assert ids[2, inputs["input_ids"].shape[1] :].tolist() == alone[0, single["input_ids"].shape[1] :].tolist()
    plain = processor(text="Hello there", return_tensors="pt")
    torch.testing.assert_close(model(**plain).logits, model.get_backbone()(**plain).logits)
    model.save_pretrained(tmp_path)
    loaded = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path)
    assert type(loaded.language_model) is type(model.language_model)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_tokens_per_nerf(nerfs):
    model, processor = tiny_model(tokens_per_nerf=3)
    inputs = batch(processor, nerfs)
    features = model.get_nerf_features(nerf_embeddings=model.encode(nerfs)).pooler_output
    assert features.shape == (3, 3, 32)
    hidden = model(**inputs, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(hidden[inputs["input_ids"] == processor.nerf_token_id], features.flatten(0, 1))
    ids = model.generate(**inputs, max_new_tokens=3, do_sample=False, num_beams=2)
    assert ids.shape[0] == 3


def test_a_model_without_an_encoder_takes_embeddings(nerfs, tmp_path):
    tokenizer = tiny_tokenizer()
    backbone = AutoModelForCausalLM.from_config(tiny_text_config(len(tokenizer)))
    model, processor = assemble(backbone, tokenizer)
    assert model.nerf_encoder is None
    inputs = processor(nerfs=torch.rand(1, 1024), text="<nerf> a", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=2)
    with pytest.raises(ValueError, match=r"has no encoder .* precomputed embeddings"):
        model(**processor(nerfs=nerfs[:1], text="<nerf> a", return_tensors="pt"))
    model.save_pretrained(tmp_path)
    assert LlanaGmnForConditionalGeneration.from_pretrained(tmp_path).nerf_encoder is None


def test_new_tokens_start_as_the_mean_of_the_others():
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    torch.manual_seed(0)
    backbone = AutoModelForCausalLM.from_config(tiny_text_config(size))
    tables = [backbone.get_input_embeddings().weight.clone(), backbone.get_output_embeddings().weight.clone()]
    model, processor = assemble(backbone, tokenizer)
    assert (processor.nerf_token_id, model.config.nerf_start_token_id, model.config.nerf_end_token_id) == (
        size,
        size + 1,
        size + 2,
    )
    for old, module in zip(tables, (model.get_input_embeddings(), model.get_output_embeddings()), strict=True):
        assert torch.equal(module.weight[:size], old)
        torch.testing.assert_close(module.weight[size:], old.mean(0).expand(3, -1))


def test_llana_7b_on_the_meta_device():
    with torch.device("meta"):
        model = LlanaGmnForConditionalGeneration(LlanaGmnConfig(use_encoder=False))
    # docs/released_format.md#llana-checkpoint: Llama-2-7B has 6 738 415 616 parameters, 32 000 of vocabulary; LLaNA has three
    # rows more in both tables and the projector 1024 -> 1024 -> 2048 -> 4096.
    llama = 6_738_415_616 + 2 * 3 * 4096
    projector = 1024 * 1024 + 1024 + 1024 * 2048 + 2048 + 2048 * 4096 + 4096
    assert sum(parameter.numel() for parameter in model.parameters()) == llama + projector
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes["model.language_model.embed_tokens.weight"] == (32003, 4096)
    assert shapes["model.projector.4.weight"] == (4096, 2048)


def test_the_model_card_is_written_once(model, tmp_path):
    model.save_pretrained(tmp_path / "talker")
    card = (tmp_path / "talker" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "# talker" in card
    assert "llama, hidden size 32, 2 layers" in card
    (tmp_path / "talker" / "README.md").write_text("mine")
    model.save_pretrained(tmp_path / "talker")
    assert (tmp_path / "talker" / "README.md").read_text() == "mine"


def saved_before(weights):
    """The same weights under the names of models whose body did not stand apart from the head."""
    names = {
        "lm_head.": "language_model.lm_head.",
        "model.language_model.": "language_model.model.",
        "model.projector.": "projector.",
        "model.nerf_encoder.": "nerf_encoder.",
    }
    new = {}
    for key, tensor in weights.items():
        prefix = "base_model.model." if key.startswith("base_model.model.") else ""
        start = next(start for start in names if key.startswith(prefix + start))
        new[prefix + names[start] + key.removeprefix(prefix + start)] = tensor.clone()
    return new


@pytest.mark.parametrize("auto", [AutoModelForCausalLM, AutoModel])
def test_models_saved_before_load_and_are_saved_with_the_names_of_today(model, tmp_path, auto):
    model.save_pretrained(tmp_path / "before")
    file = tmp_path / "before" / "model.safetensors"
    save_file(saved_before(load_file(file)), file, metadata={"format": "pt"})
    assert "language_model.model.embed_tokens.weight" in load_file(file)
    loaded = auto.from_pretrained(tmp_path / "before")
    expected = model.state_dict() if auto is AutoModelForCausalLM else model.model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    loaded.save_pretrained(tmp_path / "after")
    assert load_file(tmp_path / "after" / "model.safetensors").keys() == loaded.state_dict().keys()


@pytest.mark.parametrize("trainable", ["lora", "projector"])
def test_adapters_saved_before_load(tiny, tiny_folder, tmp_path, trainable):
    def base():
        return LlanaGmnForConditionalGeneration.from_pretrained(tiny_folder)

    recipe = TrainingRecipe(model=str(tiny_folder), data="d", output="o", trainable=trainable)
    adapted = prepare(base(), recipe).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file(saved_before(load_file(file)), file)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["target_modules"] = config["target_modules"].removeprefix("model\\.")
    config["trainable_token_indices"] = {
        "language_model.model.embed_tokens": next(iter(config["trainable_token_indices"].values()))
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    ids = torch.tensor([[1, 300, tiny[1].tokenizer.convert_tokens_to_ids("<point_start>"), 20]])
    expected = adapted(input_ids=ids).logits
    for loaded in (
        load_adapter(base(), tmp_path),
        LlanaGmnForConditionalGeneration.from_pretrained(tmp_path),
        load_model(tmp_path)[0],
    ):
        torch.testing.assert_close(loaded.eval()(input_ids=ids).logits, expected, rtol=0, atol=1e-5)


def test_all_linear_layers_are_not_the_encoders(tiny, nerfs):
    model, processor = copy.deepcopy(tiny[0]), tiny[1]
    embeddings = model.encode(nerfs)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    inputs = batch(processor, nerfs)
    adapted(**inputs, labels=inputs["input_ids"]).loss.backward()
    learning = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert learning and not any("nerf_encoder" in name for name in learning)
    assert all(parameter.grad is not None for parameter in learning.values())
    torch.testing.assert_close(model.encode(nerfs), embeddings)


@pytest.mark.parametrize(
    "device_map",
    [
        {"": "disk"},
        {"model.nerf_encoder": "cpu", "model.projector": "cpu", "model.language_model": "disk", "lm_head": "cpu"},
    ],
    ids=["all", "backbone"],
)
def test_offloaded_to_disk(tiny, nerfs, tmp_path, tiny_folder, device_map):
    model, processor = tiny
    inputs = batch(processor, nerfs)
    offloaded = LlanaGmnForConditionalGeneration.from_pretrained(
        tiny_folder, device_map=device_map, offload_folder=tmp_path
    )
    assert offloaded.device == torch.device("cpu")
    with torch.no_grad():
        torch.testing.assert_close(offloaded(**inputs).logits, model(**inputs).logits)
    expected = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert torch.equal(offloaded.generate(**inputs, max_new_tokens=4, do_sample=False), expected)


def test_offloaded_by_accelerate(tiny, nerfs, tmp_path):
    model, processor = tiny
    inputs = batch(processor, nerfs)
    buffers = disk_offload(
        copy.deepcopy(model), tmp_path / "b", execution_device=torch.device("cpu"), offload_buffers=True
    )
    with pytest.raises(ValueError, match="no weights in memory; do not offload buffers"):
        buffers(**inputs)
    offloaded = disk_offload(copy.deepcopy(model), tmp_path / "a", execution_device=torch.device("cpu"))
    assert offloaded.device == torch.device("cpu")
    with torch.no_grad():
        torch.testing.assert_close(offloaded(**inputs).logits, model(**inputs).logits)


def test_weights_missing_from_a_file_start_as_those_of_a_new_model(model, monkeypatch):
    config = copy.deepcopy(model.config)
    initialise = LlanaGmnForConditionalGeneration._initialize_weights

    def seeded(*args, **kwargs):
        torch.manual_seed(0)
        initialise(*args, **kwargs)

    monkeypatch.setattr("transformers.PreTrainedModel._initialize_weights", seeded)
    new = LlanaGmnForConditionalGeneration(config).state_dict()
    loaded = LlanaGmnForConditionalGeneration.from_pretrained(None, config=config, state_dict={}).state_dict()
    assert [name for name, weights in new.items() if not torch.equal(weights, loaded[name])] == []


def test_a_tied_weight_goes_by_the_name_of_the_embeddings():
    model, _ = tiny_model(tiny_text_config(tie_word_embeddings=True))
    names = dict(model.named_parameters())
    assert "lm_head.weight" not in names
    assert names["model.language_model.embed_tokens.weight"] is model.lm_head.weight


SIZES = {
    "vocab_size": 640,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def test_a_mixture_of_experts_adds_to_the_loss():
    config = MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4, output_router_logits=True)
    model, processor = tiny_model(config)
    inputs = processor(text="Hello there", return_tensors="pt")
    out, plain = (each(**inputs, labels=inputs["input_ids"]) for each in (model, model.get_backbone()))
    assert out.aux_loss > 0
    torch.testing.assert_close((out.loss, out.logits), (plain.loss, plain.logits))


def test_a_head_of_several_layers_is_refused():
    config = ModernBertDecoderConfig(**SIZES, pad_token_id=0)
    with pytest.raises(ValueError, match="ModernBertDecoderForCausalLM cannot be a backbone: expected a body and one"):
        tiny_model(config)
