"""A language model around an encoder kind that the packages do not know: assembled, saved, loaded, asked; and `embed` with it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder import load_encoder, save_nerf
from gmn_encoder.encoders.frozen import FrozenEncoder
from llana_gmn import LlanaGmnConfig, LlanaGmnForConditionalGeneration
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.commands import main
from llana_gmn.conversion.convert import convert
from tests.encoder.encoders.moments import MomentsConfig, MomentsEncoder


def test_a_language_model_around_another_kind(moments, nerfs, tmp_path):
    model, processor = tiny_model(encoder_config=MomentsConfig(embedding_dim=12))
    assert isinstance(model.nerf_encoder, moments)
    assert isinstance(model.nerf_encoder, FrozenEncoder)
    assert "FrozenMomentsEncoder" in model._no_split_modules
    assert not any("nerf_encoder" in name for name, _ in model.named_parameters())
    inputs = processor(nerfs=[[nerf] for nerf in nerfs], text=["<nerf> What?"] * 3, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    model.bfloat16().float().save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "config.json").read_text())["encoder_config"]
    assert saved == {"model_type": "moments", "embedding_dim": 12, "num_tokens": 2}
    loaded = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert loaded.config.encoder_config == MomentsConfig(embedding_dim=12)
    assert loaded.nerf_encoder.fingerprint() == model.nerf_encoder.fingerprint()
    again = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again.encode(nerfs), model.encode(nerfs))
    assert again.generate(**inputs, max_new_tokens=4, do_sample=False).shape == ids.shape
    with pytest.raises(ValueError, match="its encoder is a 'moments'; a gmnerf checkpoint holds a GMN"):
        convert(tmp_path / "model", tmp_path / "encoder.pt", to="gmnerf")


def test_an_encoder_of_another_kind_takes_the_place_of_the_first(moments, nerfs):
    model, _ = tiny_model()
    encoder = moments(MomentsConfig(embedding_dim=32))
    model.set_nerf_encoder(encoder)
    torch.testing.assert_close(model.encode(nerfs), encoder.encode(nerfs))
    assert "FrozenGmnEncoder" not in model._no_split_modules
    assert LlanaGmnConfig.from_dict(model.config.to_dict()).encoder_config == encoder.config
    with pytest.raises(ValueError, match="embeddings of 9, the model's projector reads 32"):
        model.set_nerf_encoder(moments(MomentsConfig(embedding_dim=9)))


@pytest.mark.usefixtures("moments")
def test_the_embed_command_takes_another_kind(nerfs, tmp_path):
    MomentsEncoder(MomentsConfig()).save_pretrained(tmp_path / "encoder")
    for number, nerf in enumerate(nerfs):
        save_nerf(nerf, tmp_path / "nerfs" / f"{number}.safetensors")
    out = tmp_path / "embeddings.safetensors"
    assert main(["embed", str(tmp_path / "nerfs"), "--encoder", str(tmp_path / "encoder"), "--out", str(out)]) == 0
    expected = load_encoder(tmp_path / "encoder").encode(nerfs)
    torch.testing.assert_close(load_file(out)["embeddings"], expected)


def test_a_language_model_is_no_encoder(tiny_folder):
    """`load_encoder` knows none; `embed --encoder` takes the encoder out of it."""
    with pytest.raises(ValueError, match="model_type 'llana_gmn' is no kind of encoder"):
        load_encoder(tiny_folder)
