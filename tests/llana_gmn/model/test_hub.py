"""Models, processors and adapters to and from the Hugging Face hub, without a network."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM

from llana_gmn import LlanaGmnForConditionalGeneration, LlanaGmnProcessor, assemble, load_model
from llana_gmn.assembly.tiny import tiny_model, tiny_text_config, tiny_tokenizer
from llana_gmn.checkpoints.merge import merge
from llana_gmn.checkpoints.provenance import model_fingerprint
from llana_gmn.model.hub import push_adapter
from tests.hub_stub import HubStub, offline, put_into_cache


@pytest.fixture
def hub(monkeypatch):
    return HubStub(monkeypatch)


@pytest.fixture
def adapted(tiny_folder):
    """A model with an adapter, whose matrices are not zero."""
    model = LlanaGmnForConditionalGeneration.from_pretrained(tiny_folder)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["projector"])
    peft = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)
    return peft


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def written(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_model_goes_up_with_our_card(hub, processor, tmp_path):
    model, _ = tiny_model()
    model.config.text_config._name_or_path = "someone/llama"
    model.add_model_tags(["mine"])
    model.push_to_hub("me/talker", tags="shapenet", private=True)
    processor.push_to_hub("me/talker")
    files = hub.files["me/talker"]
    assert {"config.json", "model.safetensors", "README.md", "processor_config.json", "tokenizer.json"} <= files.keys()
    card = hub.card("me/talker")
    assert metadata(card) == {
        "library_name": "transformers",
        "license": "unknown",
        "pipeline_tag": "any-to-any",
        "base_model": "someone/llama",
        "tags": ["nerf", "llana", "llana-gmn", "mine", "shapenet"],
    }
    assert "# me/talker\n" in card
    assert "More Information Needed" not in card
    assert 'LlanaGmnForConditionalGeneration.from_pretrained("me/talker")' in card
    loaded, _ = load_model(written(files, tmp_path))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_a_card_that_is_there_stays_and_a_processor_brings_none(hub, model, processor):
    processor.push_to_hub("me/talker", token="secret")
    assert "README.md" not in hub.files["me/talker"]
    hub.files["me/talker"]["README.md"] = b"mine"
    model.push_to_hub("me/talker", commit_message="Again", revision="v2", create_pr=False)
    assert hub.card("me/talker") == "mine"
    options = [options for name, options in hub.calls if name == "upload_folder"]
    assert [each["token"] for each in options] == ["secret", None]
    assert (options[1]["commit_message"], options[1]["revision"]) == ("Again", "v2")


def test_saving_and_pushing_in_one_call(hub, model, tmp_path):
    model.save_pretrained(tmp_path / "talker", push_to_hub=True)
    model.save_pretrained(tmp_path / "again", push_to_hub=True, repo_id="me/again", private=True, tags=["x"])
    assert "# talker\n" in hub.card("talker")
    assert metadata(hub.card("me/again"))["tags"][-1] == "x"
    assert (tmp_path / "again" / "model.safetensors").is_file()


@pytest.mark.parametrize("base", ["/nowhere/model", "folder/model/of/mine", "", None])
def test_a_base_that_is_no_hub_name_is_not_named(hub, base):
    model, _ = tiny_model()
    model.config.text_config._name_or_path = base
    model.push_to_hub("me/talker")
    assert "base_model" not in metadata(hub.card("me/talker"))


def test_an_adapter_goes_up_with_its_base(hub, adapted, processor, tmp_path, tiny_folder, nerfs):
    with pytest.raises(ValueError, match=r"base model is .*, a directory of this machine; upload that too"):
        push_adapter(adapted, "me/adapter")
    assert not hub.files["me/adapter"]
    push_adapter(adapted, "me/adapter", base_model="me/talker", processor=processor, tags=["mine"])
    files = hub.files["me/adapter"]
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "processor_config.json"} <= files.keys()
    assert "model.safetensors" not in files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "me/talker"
    card = hub.card("me/adapter")
    assert metadata(card) == {
        "library_name": "peft",
        "license": "unknown",
        "base_model": "me/talker",
        "tags": ["lora", "nerf", "llana", "llana-gmn", "mine"],
    }
    assert "| rank | 2 |" in card
    assert "| adapted | `q_proj, v_proj` |" in card
    assert "| trained beside it | `projector` |" in card
    assert 'load_model("me/adapter")' in card


def test_of_a_training_directory_the_adapter_alone_goes_up(hub, adapted, processor, tmp_path):
    adapted.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    (tmp_path / "checkpoint-1").mkdir()
    for name in ("checkpoint-1/optimizer.pt", "trainer_state.json", "problems.txt"):
        (tmp_path / name).write_text("private")
    push_adapter(tmp_path, "me/adapter", base_model="me/talker")
    sent = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    processors = {"processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert sent <= hub.files["me/adapter"].keys() <= sent | processors
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] != "me/talker"
    with pytest.raises(FileNotFoundError, match=r"holds no adapter; expected a directory with adapter_config\.json"):
        push_adapter(tmp_path / "checkpoint-1", "me/adapter")


@pytest.fixture
def cache(tmp_path, monkeypatch, tiny_folder, adapted):
    """A cache of downloads: a model at two revisions, one of them in a folder, and an adapter of it."""
    offline(monkeypatch, tmp_path / "cache")
    put_into_cache(tmp_path / "cache", "me/talker", tiny_folder)
    put_into_cache(tmp_path / "cache", "me/talker", tiny_folder, revision="v2", subfolder="deep/model")
    adapted.peft_config["default"].base_model_name_or_path = "me/talker"
    adapted.save_pretrained(tmp_path / "adapter")
    put_into_cache(tmp_path / "cache", "me/adapter", tmp_path / "adapter")
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "options", [{}, {"revision": "v2", "subfolder": "deep/model", "token": "x"}], ids=["main", "v2"]
)
@pytest.mark.parametrize("given", [False, True], ids=["default-cache", "cache_dir"])
def test_model_and_processor_are_read_by_name(cache, monkeypatch, tiny, options, given):
    if given:
        offline(monkeypatch, cache / "empty")
        options = {**options, "cache_dir": cache}
    model, processor = tiny
    read = LlanaGmnForConditionalGeneration.from_pretrained("me/talker", **options)
    its_processor = LlanaGmnProcessor.from_pretrained("me/talker", **options)
    both = load_model("me/talker", **options)
    for each in (read, both[0]):
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in each.state_dict().items())
    for each in (its_processor, both[1]):
        assert each.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        assert each.chat_template == processor.chat_template
        assert each.embedding_dim == processor.embedding_dim
    if not given:
        with pytest.raises(
            FileNotFoundError, match="me/talker: no such directory, and no such repository with a revision 'v3'"
        ):
            load_model("me/talker", revision="v3")


def test_an_adapter_is_read_by_name_with_its_base(cache, tmp_path, adapted):
    model, processor = load_model("me/adapter")
    merged = adapted.merge_and_unload()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, merged.state_dict()[key])
    assert processor.embedding_dim == model.config.embedding_dim
    merge("me/adapter", tmp_path / "merged")
    assert not isinstance(load_model(tmp_path / "merged")[0], PeftModel)


def test_fingerprints_of_names_follow_the_commit(cache, tiny_folder):
    before = model_fingerprint("me/talker")
    of_adapter = model_fingerprint("me/adapter")
    assert before != of_adapter
    reference = cache / "models--me--talker" / "refs" / "main"
    reference.write_text((cache / "models--me--talker" / "refs" / "v2").read_text())
    with pytest.raises(FileNotFoundError, match="me/talker: is a repository without a model"):
        model_fingerprint("me/talker")
    put_into_cache(cache, "me/talker", tiny_folder, revision="next")
    reference.write_text((cache / "models--me--talker" / "refs" / "next").read_text())
    assert model_fingerprint("me/talker") != before
    assert model_fingerprint("me/adapter") != of_adapter


def test_a_model_remembers_the_name_of_its_backbone(hub, tmp_path, monkeypatch):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "llama")
    LlamaForCausalLM(tiny_text_config(len(tokenizer))).save_pretrained(tmp_path / "llama")
    put_into_cache(tmp_path / "cache", "someone/llama", tmp_path / "llama")
    offline(monkeypatch, tmp_path / "cache")
    model, _ = assemble("someone/llama", encoder=None)
    model.save_pretrained(tmp_path / "model")
    LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "model").push_to_hub("me/talker")
    assert metadata(hub.card("me/talker"))["base_model"] == "someone/llama"


@pytest.mark.parametrize("place", ["here", "hub"])
def test_model_and_adapter_in_folders(place, cache, tmp_path, tiny_folder):
    root = tmp_path / "both"
    shutil.copytree(tiny_folder, root / "model")
    shutil.copytree(tmp_path / "adapter", root / "adapter")
    name = root
    if place == "hub":
        put_into_cache(cache, "me/both", root)
        name = "me/both"
    model, processor = load_model(name, subfolder="model")
    adapted, its_processor = load_model(name, subfolder="adapter")
    assert processor.embedding_dim == its_processor.embedding_dim
    weights, others = model.state_dict(), adapted.state_dict()
    assert {key for key, value in weights.items() if not torch.equal(value, others[key])} == {
        key for key in weights if "q_proj" in key or "v_proj" in key
    }
