"""Encoders to and from the Hugging Face hub, without a network."""

from __future__ import annotations

import json

import pytest
import yaml

from gmn_encoder import GmnConfig, GmnEncoder, load_encoder
from tests.encoder.encoders.moments import MomentsConfig, MomentsEncoder
from tests.hub_stub import HubStub, offline, put_into_cache


@pytest.fixture
def hub(monkeypatch):
    return HubStub(monkeypatch)


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_an_encoder_goes_up_with_a_card_that_says_what_it_is(hub, small_encoder, tmp_path):
    small_encoder.push_to_hub("me/encoder", tags=["shapenet"], private=True, token="secret")
    files = hub.files["me/encoder"]
    assert files.keys() == {"config.json", "model.safetensors", "README.md"}
    assert json.loads(files["config.json"]) == small_encoder.config.to_dict()
    card = hub.card("me/encoder")
    assert metadata(card) == {
        "library_name": "llana-gmn",
        "license": "unknown",
        "pipeline_tag": "feature-extraction",
        "tags": ["nerf", "weight-space", "gmn_encoder", "shapenet"],
    }
    assert "# me/encoder\n" in card
    assert "kind `gmn_encoder`" in card
    assert "reads the weights of a NeRF" in card
    assert "| hidden_dim | 16 |" in card
    assert f"| weights | {sum(tensor.numel() for tensor in small_encoder.state_dict().values()):,} |" in card
    assert 'load_encoder("me/encoder")' in card
    (_, repository), (_, commit) = hub.calls
    assert repository == {"repo_id": "me/encoder", "private": True, "token": "secret", "exist_ok": True}
    assert (commit["commit_message"], commit["token"], commit["create_pr"]) == ("Upload encoder", "secret", False)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert load_encoder(tmp_path).fingerprint() == small_encoder.fingerprint()


@pytest.mark.usefixtures("moments")
def test_a_card_that_is_there_stays_and_another_kind_names_itself(hub):
    encoder = MomentsEncoder(MomentsConfig())
    encoder.push_to_hub("me/moments", revision="try")
    assert "kind `moments`" in hub.card("me/moments")
    assert [name for name, _ in hub.calls] == ["create_repo", "create_branch", "upload_folder"]
    hub.files["me/moments"]["README.md"] = b"mine"
    encoder.push_to_hub("me/moments")
    assert hub.card("me/moments") == "mine"


@pytest.fixture
def cache(tmp_path, monkeypatch, small_encoder):
    """A cache of downloads with an encoder in two revisions, one of them in a folder."""
    offline(monkeypatch, tmp_path / "default")
    small_encoder.save_pretrained(tmp_path / "small")
    GmnEncoder(GmnConfig(hidden_dim=16, embedding_dim=8)).save_pretrained(tmp_path / "other")
    for place in ("default", "elsewhere"):
        put_into_cache(tmp_path / place, "me/encoder", tmp_path / "small")
        put_into_cache(tmp_path / place, "me/encoder", tmp_path / "other", revision="v2", subfolder="parts/encoder")
    put_into_cache(tmp_path / "elsewhere", "me/elsewhere", tmp_path / "small")
    return tmp_path


@pytest.mark.parametrize("load", [load_encoder, GmnEncoder.from_pretrained])
def test_a_name_is_read_with_its_revision_cache_and_folder(cache, small_encoder, load):
    assert load("me/encoder").fingerprint() == small_encoder.fingerprint()
    assert load("me/encoder", revision="v2", subfolder="parts/encoder", token="x").embedding_dim == 8
    assert load("me/elsewhere", cache_dir=cache / "elsewhere").embedding_dim == 24
    with pytest.raises(
        FileNotFoundError, match=r"me/elsewhere: no such file or directory, and no such repository within"
    ):
        load("me/elsewhere")
    with pytest.raises(FileNotFoundError, match=r"no such repository with a revision 'v3' within reach"):
        load("me/encoder", revision="v3")
    with pytest.raises(FileNotFoundError, match=r"me/encoder: has no folder 'absent'"):
        load("me/encoder", subfolder="absent")


def test_a_folder_of_a_directory(cache, small_encoder):
    assert load_encoder(cache, subfolder="small").fingerprint() == small_encoder.fingerprint()
    assert GmnEncoder.from_pretrained(cache, subfolder="other").embedding_dim == 8
    with pytest.raises(FileNotFoundError, match=r"has no folder 'absent'; expected config\.json"):
        load_encoder(cache, subfolder="absent")


def test_token_and_patterns_reach_the_client(small_encoder, tmp_path, monkeypatch):
    import huggingface_hub

    small_encoder.save_pretrained(tmp_path / "part")
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **options: asked.append((name, options)) or str(tmp_path)
    )
    load_encoder("me/encoder", revision="v1", cache_dir="c", token="t", subfolder="part")
    patterns = ["part/config.json", "part/model.safetensors"]
    assert asked == [("me/encoder", {"allow_patterns": patterns, "revision": "v1", "cache_dir": "c", "token": "t"})]
