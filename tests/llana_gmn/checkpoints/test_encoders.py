"""The encoder that a path means, and whether a model and embeddings belong together."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gmn_encoder.embeddings.files import read_embeddings
from gmn_encoder.encoders.base import load_encoder
from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import LlanaGmnConfig
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.checkpoints.encoders import MODEL_TYPE, check_origin, open_encoder
from llana_gmn.commands import main
from llana_gmn.data.sources import LanguageData


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """A model whose encoder is another of the same sizes."""
    path = tmp_path_factory.mktemp("other") / "model"
    for part in tiny_model(seed=9):
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def blind_folder(tiny_folder, tmp_path_factory):
    """The tiny model as one without an encoder, as a converted LLaNA is."""
    path = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("blind") / "model")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "use_encoder": False, "llana": {"use_color": True}}))
    weights = load_file(path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "nerf_encoder." not in name}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture
def nerf_files(nerfs, tmp_path):
    return [save_nerf(nerf, tmp_path / "nerfs" / f"{i}.safetensors") for i, nerf in enumerate(nerfs)]


@pytest.fixture
def embedded(tiny_folder, nerf_files, tmp_path, capsys):
    """What ``embed`` writes with the encoder of the tiny model."""
    out = tmp_path / "made.safetensors"
    assert run(capsys, "embed", *nerf_files, "--encoder", tiny_folder, "--out", out)[0] == 0
    return out


def test_a_model_stands_for_its_encoder(model, tiny_folder, embedded, nerfs):
    assert LlanaGmnConfig.model_type == MODEL_TYPE
    assert open_encoder(tiny_folder).fingerprint() == model.nerf_encoder.fingerprint()
    found = read_embeddings(embedded)
    assert found.encoder == model.nerf_encoder.fingerprint()
    torch.testing.assert_close(found.values, model.nerf_encoder.encode(nerfs), rtol=1e-6, atol=1e-7)


def test_the_encoder_of_an_adapters_base(tiny_folder, tmp_path, model):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_folder)}))
    assert open_encoder(tmp_path).fingerprint() == model.nerf_encoder.fingerprint()


def test_a_model_on_the_hub_of_which_only_the_encoders_shards_are_fetched(model, tmp_path, monkeypatch):
    import huggingface_hub

    source, cache = tmp_path / "source", tmp_path / "cache"
    model.save_pretrained(source, max_shard_size="20KB")
    names = json.loads((source / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {file for key, file in names.items() if "nerf_encoder." in key}
    assert needed < set(names.values())
    cache.mkdir()

    def download(name, *, allow_patterns):
        assert name == "someone/model"
        for file in allow_patterns:
            if (source / file).is_file():
                shutil.copy(source / file, cache / file)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    assert open_encoder("someone/model").fingerprint() == model.nerf_encoder.fingerprint()
    assert {file.name for file in cache.glob("*.safetensors")} == needed


def test_the_encoder_beside_a_llana(model, tmp_path):
    config = {"model_type": "llana", "point_backbone": "nf2vec"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds no encoder; a LLaNA checkpoint has one only in its folder encoder"):
        open_encoder(tmp_path)
    save_encoder(model, tmp_path / "encoder")
    assert open_encoder(tmp_path).fingerprint() == model.nerf_encoder.fingerprint()


def test_what_is_no_encoder(blind_folder, tmp_path):
    with pytest.raises(ValueError, match="is a model without an encoder, which reads embeddings of size 32"):
        open_encoder(blind_folder)
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        open_encoder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no encoder"):
        open_encoder(tmp_path)


def test_commands_take_a_model_for_its_encoder(capsys, tiny_folder, tmp_path):
    data = tmp_path / "data"
    for family, architecture in (("mlp", "MLP-32H"), ("hash", "HASH-11T")):
        for i in range(2):
            save_nerf(Nerf.random(architecture, seed=i), data / family / "c" / f"n{i}")
    (data / "test.txt").write_text("c/n0\nc/n1")
    options = ["--data", data, "--encoder", tiny_folder, "--keep", tmp_path / "kept", "--ks", "1"]
    status, out, err = run(capsys, "retrieve", *options)
    assert (status, err) == (0, "") and "| this encoder |" in out


def test_inspect_says_which_encoder(capsys, model, tiny_folder, blind_folder, other_folder, embedded, tmp_path):
    short = model.nerf_encoder.fingerprint()[:12]
    status, out, err = run(capsys, "inspect", tiny_folder, embedded)
    assert (status, err) == (0, "")
    assert (
        f"{tiny_folder}\n  kind          model\n  encoder       gmn_encoder {short}\n  embeddings    of size 32\n"
        in out
    )
    assert f"{embedded}\n  kind          embeddings\n  encoder       {short}\n  embeddings    3 of size 32\n" in out
    np.save(tmp_path / "a.npy", np.zeros(32, dtype=np.float32))
    np.save(tmp_path / "b.npy", np.zeros(16, dtype=np.float32))
    status, out, err = run(capsys, "inspect", tmp_path / "a.npy", blind_folder)
    assert (status, err) == (0, "")
    assert "encoder       unknown: the file does not say" in out and "none (LLaNA reads embeddings of nf2vec)" in out
    load_encoder(save_encoder(model, tmp_path / "encoder"))
    status, out, err = run(
        capsys, "inspect", "--json", tmp_path / "encoder", embedded, other_folder, tmp_path / "b.npy"
    )
    assert status == 1
    encoder, made, other, _ = json.loads(out)
    assert encoder["kind"] == "encoder" and encoder["encoder"] == {
        "kind": "gmn_encoder",
        "fingerprint": made["encoder"]["fingerprint"],
    }
    strange = other["encoder"]["fingerprint"][:12]
    together = [
        f"{tmp_path / 'b.npy'} and {tmp_path / 'encoder'}: do not belong together: embeddings of size 16, and 32 expected",
        f"{embedded} and {other_folder}: do not belong together: made by encoder {short}, and {strange} expected",
        f"{tmp_path / 'b.npy'} and {other_folder}: do not belong together: embeddings of size 16, and 32 expected",
    ]
    assert all(sentence in err for sentence in together) and len(err.strip().splitlines()) == 3


def test_a_llana_with_another_encoder_than_it_reads(capsys, tiny_folder, embedded, tmp_path):
    path = shutil.copytree(tiny_folder, tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    sentence = "is from a LLaNA checkpoint, which reads embeddings of nf2vec, and its encoder is a gmn_encoder;"
    for llana, said in (({}, True), ({"point_backbone": "gmn_encoder"}, False)):
        (path / "config.json").write_text(json.dumps({**config, "llana": llana}))
        status, out, _ = run(capsys, "inspect", path)
        assert (status, sentence in out) == (0, said)
        _, _, err = run(capsys, "chat", "--model", path, "--question", "Hi?", "--max-new-tokens", "2")
        assert (f"{path}: {sentence}" in err) == said


def save_encoder(model, path):
    model.nerf_encoder.save_pretrained(path)
    return path


def test_captions_of_embeddings_are_those_of_their_nerfs(capsys, tiny_folder, nerf_files, embedded, tmp_path):
    command = ["caption", "--model", tiny_folder, "--max-new-tokens", "6"]
    assert run(capsys, *command, *nerf_files, "--out", tmp_path / "one.jsonl")[0] == 0
    status, _, err = run(capsys, *command, embedded, "--out", tmp_path / "two.jsonl")
    assert (status, "encoder" in err) == (0, False)
    one, two = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("one", "two")
    )
    assert [(each["nerf"], each["caption"]) for each in one] == [(each["nerf"], each["caption"]) for each in two]


def test_embeddings_of_another_encoder_are_refused(capsys, model, other_folder, embedded, language_data, tmp_path):
    sentence = f"{embedded}: made by encoder {model.nerf_encoder.fingerprint()[:12]}, this model's is gmn_encoder "
    status, _, err = run(capsys, "caption", "--model", other_folder, embedded, "--out", tmp_path / "c.jsonl")
    assert status == 1 and sentence in err
    status, _, err = run(capsys, "chat", "--model", other_folder, "--nerf", embedded, "--question", "What?")
    assert status == 1 and sentence in err
    data = LanguageData(language_data, embeddings={"mlp": str(embedded)}, encoder=open_encoder(other_folder))
    with pytest.raises(ValueError, match="made by encoder"):
        data.table("train", ["a"])


def test_what_nobody_can_tell_is_said(capsys, caplog, tiny_folder, blind_folder, language_data, embedded, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(32, dtype=np.float32))
    options = ["--max-new-tokens", "2"]
    note = f"{tmp_path / 'a.npy'}: does not say which encoder made it; this model's is gmn_encoder "
    status, _, err = run(
        capsys, "caption", "--model", tiny_folder, tmp_path / "a.npy", "--out", tmp_path / "c.jsonl", *options
    )
    assert status == 0 and err.count(note) == 1
    question = ["--question", "What is <nerf>?", *options]
    status, _, err = run(capsys, "chat", "--model", tiny_folder, "--nerf", tmp_path / "a.npy", *question)
    assert status == 0 and err.count(note) == 1
    status, _, err = run(capsys, "chat", "--model", blind_folder, "--nerf", embedded, "--question", "What?", *options)
    assert status == 0 and "this model has no encoder to compare with (LLaNA's reads nf2vec's)" in err
    assert check_origin("", None, "x") is None
    files = {"mlp": str(language_data / "mlp.safetensors")}
    LanguageData(language_data, embeddings=files, encoder=open_encoder(tiny_folder)).table("train", ["a"])
    assert "mlp.safetensors: does not say which encoder made it" in caplog.text
