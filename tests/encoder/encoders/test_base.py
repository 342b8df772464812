"""Encoders of any kind: saved, opened by the kind that their configuration names, frozen. `moments.py` is a kind from outside."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

from gmn_encoder import GmnEncoder, MlpArchitecture, Nerf, NerfEncoder, TriplaneArchitecture, load_encoder
from gmn_encoder.encoders.base import encoder_class, encoder_config, register_encoder
from gmn_encoder.encoders.frozen import FrozenEncoder, frozen, frozen_copy
from tests.conftest import GOLDEN
from tests.encoder.encoders.moments import MomentsConfig, MomentsEncoder

NERFS = [
    Nerf.random(MlpArchitecture(hidden_dim=16, frequencies=3), seed=1),
    Nerf.random(TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=4, channels=3), seed=2),
    Nerf.random(MlpArchitecture(hidden_dim=16, frequencies=3), seed=3),
]


@pytest.mark.usefixtures("moments")
def test_another_kind_is_saved_opened_and_encodes_in_order(tmp_path):
    encoder = encoder_class("moments")(MomentsConfig())
    assert isinstance(encoder, NerfEncoder)
    encoder.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, MomentsEncoder)
    assert not loaded.training
    assert loaded.config == encoder_config(encoder.config.to_dict()) == encoder.config
    assert loaded.fingerprint() == encoder.fingerprint() != MomentsEncoder(MomentsConfig()).fingerprint()
    tokens = loaded.encode_tokens(NERFS)
    assert tokens.shape == (3, 2, 20)
    alone = torch.cat([loaded.encode_tokens([nerf]) for nerf in NERFS])
    torch.testing.assert_close(tokens, alone)
    assert (tokens[0] - tokens[2]).abs().max() > 1e-4
    torch.testing.assert_close(loaded.encode(NERFS), tokens.mean(dim=1))
    assert loaded.encode([]).shape == (0, 20)


@pytest.mark.usefixtures("moments")
def test_the_gmn_is_one_kind_of_several(small_encoder, tmp_path):
    small_encoder.save_pretrained(tmp_path)
    assert isinstance(small_encoder, NerfEncoder)
    for path in (tmp_path, GOLDEN / "ckpts" / "golden" / "best.pt"):
        assert isinstance(load_encoder(path), GmnEncoder)
    torch.testing.assert_close(small_encoder.encode_tokens(NERFS), small_encoder.encode(NERFS)[:, None])
    with pytest.raises(ValueError, match="'moments' model; expected 'gmn_encoder'"):
        MomentsEncoder(MomentsConfig()).save_pretrained(tmp_path)
        GmnEncoder.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'moments' is registered already"):
        register_encoder("moments", GmnEncoder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "llana_gmn"},
            "model_type 'llana_gmn' is no kind of encoder; expected one of gmn_encoder, nf2vec, sane: name an",
        ),
        ({"model_type": ["gmn_encoder"]}, "is no kind of encoder"),
        ({"model_type": "gmn_encoder", "width": 3}, "has no field 'width'"),
        ([], "holds a list; expected an object"),
    ],
)
def test_what_is_no_encoder_says_so(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        load_encoder(tmp_path)


def test_broken_and_missing_files_say_so(tmp_path, small_encoder):
    with pytest.raises(FileNotFoundError, match=r"absent: no such file or directory"):
        load_encoder(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"holds no encoder; expected config\.json and model\.safetensors"):
        load_encoder(tmp_path)
    small_encoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: is no JSON file"):
        load_encoder(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt: holds no GMN encoder; found 'weight'"):
        load_encoder(tmp_path / "other.pt")


@pytest.mark.usefixtures("moments")
@pytest.mark.parametrize("kind", ["gmn", "moments"])
def test_frozen_encoders_of_any_kind(kind, small_encoder):
    encoder = small_encoder if kind == "gmn" else MomentsEncoder(MomentsConfig()).eval()
    copied = frozen_copy(encoder)
    cls = type(copied)
    assert isinstance(copied, FrozenEncoder)
    assert isinstance(copied, type(encoder))
    assert cls is frozen(type(encoder)) is frozen(cls)
    assert copied._no_split_modules == [cls.__name__]
    assert not list(copied.parameters())
    assert copied.state_dict().keys() == encoder.state_dict().keys()
    assert copied.fingerprint() == encoder.fingerprint()
    copied.train()
    copied.bfloat16()
    assert not any(module.training for module in copied.modules())
    assert copied.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = copied.encode_tokens(NERFS)
    torch.testing.assert_close(tokens, encoder.encode_tokens(NERFS))
    assert not tokens.requires_grad
    for again in (copy.deepcopy(copied), pickle.loads(pickle.dumps(copied))):
        assert type(again) is cls
        assert again.fingerprint() == encoder.fingerprint()
        torch.testing.assert_close(again.encode(NERFS), copied.encode(NERFS))
