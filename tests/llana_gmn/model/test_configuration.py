from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transformers import AutoConfig, GPT2Config, LlamaConfig

from gmn_encoder.encoders.gmn.config import GmnConfig
from llana_gmn import LlanaGmnConfig, default_model_path


def test_defaults_are_llana_7b():
    config = LlanaGmnConfig()
    text = config.get_text_config()
    assert (text.model_type, text.hidden_size, text.num_hidden_layers, text.vocab_size) == ("llama", 4096, 32, 32003)
    assert (config.nerf_token_id, config.nerf_start_token_id, config.nerf_end_token_id) == (32000, 32001, 32002)
    assert config.projector_hidden_sizes == [1024, 2048]
    assert config.embedding_dim == 1024
    assert config.encoder_config == GmnConfig()


@pytest.mark.parametrize("text", [LlamaConfig(vocab_size=40000, hidden_size=64), GPT2Config(n_embd=24)])
def test_save_and_load_give_the_same_configuration(tmp_path, text):
    config = LlanaGmnConfig(
        text_config=text,
        encoder_config=GmnConfig(hidden_dim=16, embedding_dim=48, layout="geometric"),
        projector_hidden_sizes=(7, 9),
        tokens_per_nerf=3,
        encoder_dtype="bfloat16",
        llana={"use_color": True},
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, LlanaGmnConfig)
    assert type(loaded.text_config) is type(text)
    assert loaded.encoder_config == GmnConfig(hidden_dim=16, embedding_dim=48, layout="geometric")
    ignored = ("transformers_version", "_name_or_path")
    first, second = (
        {k: v for k, v in json.loads(c.to_json_string(use_diff=False)).items() if k not in ignored}
        for c in (config, loaded)
    )
    assert first == second


def test_saved_models_of_before_have_a_gmn_config(tmp_path):
    sizes = GmnConfig(hidden_dim=32, embedding_dim=256, num_layers=2, layout="geometric", readout_dim=512)
    values = json.loads((default_model_path() / "config.json").read_text())
    values["gmn_config"] = {key: value for key, value in sizes.to_dict().items() if key != "model_type"}
    del values["encoder_config"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = LlanaGmnConfig.from_pretrained(tmp_path)
    assert config.encoder_config == sizes
    assert config.to_dict()["encoder_config"] == config.encoder_config.to_dict()
    assert "gmn_config" not in config.to_dict()


def test_tied_embeddings_are_the_backbones():
    assert LlanaGmnConfig(text_config=LlamaConfig(vocab_size=40000, tie_word_embeddings=True)).tie_word_embeddings
    assert not LlanaGmnConfig().tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens_per_nerf": 0}, "tokens_per_nerf must be a positive integer, got 0"),
        ({"projector_hidden_sizes": [16, -1]}, "projector_hidden_sizes must be a positive integer, got -1"),
        ({"encoder_dtype": "float16"}, "one of float32, bfloat16, got 'float16'"),
        ({"projector_hidden_act": "gelo"}, "got 'gelo'"),
        ({"nerf_token_id": 32001}, "must differ"),
        ({"nerf_end_token_id": 32003}, "vocabulary of 32003"),
        ({"text_config": {"model_type": "lama"}}, "unknown model_type 'lama'"),
        ({"encoder_config": {"hidden_dims": 4}}, "no field 'hidden_dims'"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LlanaGmnConfig(**changes)


def test_what_is_no_encoders_configuration_is_refused():
    with pytest.raises(TypeError, match="encoder_config must be an encoder's configuration or its dictionary, got str"):
        LlanaGmnConfig(encoder_config="gmn_encoder")
    with pytest.raises(ValueError, match="model_type 'lama' is no kind of encoder"):
        LlanaGmnConfig(encoder_config={"model_type": "lama"})


def test_import_is_quick_and_light():
    code = "import sys, llana_gmn; assert not {'torch', 'transformers'} & set(sys.modules); llana_gmn.__dir__()"
    subprocess.run([sys.executable, "-c", code], check=True)
