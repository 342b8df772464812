"""Where a data set's embeddings come from: vecs, files of `embed`, NeRFs through the cache."""

import json

import numpy as np
import pytest
import torch

from gmn_encoder import GmnConfig, GmnEncoder, MlpArchitecture
from gmn_encoder.embeddings.files import write_embeddings
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.nerfs.files import save_nerf
from llana_gmn.data.conversations import HST
from llana_gmn.data.positions import position, position_of
from llana_gmn.data.sources import LanguageData, fitted_architecture


@pytest.fixture
def nerf_root(tmp_path, nerfs):
    for family, nerf in zip(("mlp", "triplane", "hash"), nerfs, strict=True):
        for name in ("a", "b"):
            save_nerf(nerf, tmp_path / "data" / family / "0001" / name / "nerf.safetensors")
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["e.safetensors", "e.npz", "folder"])
def test_files_of_embed(tmp_path, name):
    paths = ("nerf/mlp/0001/x", "nerf/mlp/0002/x", "nerf/mlp/0002/y")
    write_embeddings(EmbeddingSet.of_nerfs(torch.eye(3, 4), paths), tmp_path / name)
    table = LanguageData(tmp_path, embeddings={"mlp": tmp_path / name, "hash": tmp_path / name}).table("train", [])
    assert table.ambiguous == {"x"}
    assert table.families_of(["y", "0001/x"]) == ["mlp", "hash"]
    assert torch.equal(table.lookup(["0002/x", "y"], "hash"), torch.eye(3, 4)[1:])


def test_nerfs_are_embedded_once(nerf_root, small_encoder, nerfs, tmp_path, monkeypatch):
    data = LanguageData(nerf_root, families=("mlp", "hash"), encoder=small_encoder, cache=tmp_path / "cache")
    table = data.table("train", ["0001/a"])
    expected = small_encoder.encode([nerfs[0], nerfs[2]])
    torch.testing.assert_close(table.lookup(["a"], "mlp")[0], expected[0])
    torch.testing.assert_close(table.lookup(["0001/a"], "hash")[0], expected[1])
    # Equal files under other names are known already, and so is everything the second time.
    monkeypatch.setattr(type(small_encoder), "encode", lambda *a, **k: pytest.fail("embedded again"))
    again = data.table("train", ["a", "b"])
    assert torch.equal(again.lookup(["b"], "mlp"), table.lookup(["a"], "mlp"))


def test_positions(nerf_root, small_encoder, nerfs, tmp_path):
    """Each NeRF as it is or in one of the other positions, all of which keep what stands upright and how it is proportioned."""
    torch.manual_seed(0)
    encoder = GmnEncoder(GmnConfig(probes=64, probe_dim=16, token_grid=2, embedding_dim=12, graph=False)).eval()
    data = LanguageData(nerf_root, encoder=encoder, cache=tmp_path / "cache")
    table = data.table("train", ["0001/a", "0001/b"], positions=2)
    seen = set()
    for family, nerf in zip(("mlp", "triplane", "hash"), nerfs, strict=True):
        for name in ("a", "b"):
            number = position_of(family, name, 2)
            seen.add(number)
            expected = (encoder.moved(*position(number)) if number else encoder).encode([nerf])
            assert torch.equal(table.lookup([f"0001/{name}"], family), expected)
    assert len(seen) > 1
    for number in (1, 2, 3):
        linear, shift = position(number)
        scale = float(linear[2, 2])
        assert abs(scale - 1) <= 0.1
        torch.testing.assert_close(linear @ linear.T, scale**2 * torch.eye(3))
        assert float(torch.linalg.det(linear)) * (-1) ** number > 0
        assert linear[2, :2].tolist() == linear[:2, 2].tolist() == [0, 0]
        assert float(shift.abs().max()) <= 0.04
    with pytest.raises(ValueError, match=r"positions: 2: this encoder reads weights alone"):
        LanguageData(nerf_root, encoder=small_encoder, cache=tmp_path / "c2").table("train", ["0001/a"], positions=2)
    with pytest.raises(ValueError, match=r"positions: 2: .* has embeddings, which cannot be moved"):
        LanguageData(nerf_root, embeddings={"mlp": "x"}, encoder=encoder).table("train", ["0001/a"], positions=2)


def test_broken_nerfs_are_named(nerf_root, small_encoder, tmp_path):
    (nerf_root / "mlp" / "0001" / "a" / "nerf.safetensors").write_bytes(b"broken")
    (nerf_root / "mlp" / "0001" / "b" / "nerf.safetensors").unlink()
    data = LanguageData(nerf_root, families=("mlp", "hash"), encoder=small_encoder, cache=tmp_path / "cache")
    table = data.table("train", ["a", "b"])
    assert set(table.families) == {"hash"}
    assert len(table.problems) == 2
    data = LanguageData(nerf_root, families=("mlp",), encoder=small_encoder, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"holds no embeddings that can be used .*0001/[ab]"):
        data.table("train", ["a", "b"])


def test_fitted_architectures_that_tensors_do_not_tell(tmp_path):
    odd = MlpArchitecture(hidden_dim=16, hidden_layers=2)
    (tmp_path / FIT_NAME).write_text(json.dumps({"architecture": odd.to_dict()}))
    assert fitted_architecture([tmp_path]) == odd
    (tmp_path / FIT_NAME).write_text(json.dumps({"architecture": MlpArchitecture().to_dict()}))
    assert fitted_architecture([tmp_path]) is None
    assert fitted_architecture([tmp_path / "without"]) is fitted_architecture([]) is None


def test_a_split_of_released_data(tmp_path, processor):
    """ShapeNeRF-Text: texts and vecs; the human-written descriptions stand in the root."""
    texts = tmp_path / "train" / "texts"
    texts.mkdir(parents=True)
    said = [{"from": "human", "value": "<point>\nWhat?"}, {"from": "gpt", "value": "A chair."}]
    entry = {"object_id": "a", "conversation_type": "brief_description", "conversations": said}
    odd = {**entry, "conversations": said[:1]}
    unknown = {**entry, "conversation_type": "poem"}
    (texts / "conversations_brief.json").write_text(json.dumps([entry, odd, unknown, {**entry, "object_id": "b"}]))
    (tmp_path / "hst_dataset_filtered.json").write_text(json.dumps([{"object_id": "a", "conversations": said}]))
    (tmp_path / "train" / "vecs" / "part").mkdir(parents=True)
    np.save(tmp_path / "train" / "vecs" / "part" / "a.npy", np.ones(32))
    data = LanguageData(tmp_path)
    dataset = data.load("train", ["brief_description"], processor=processor)
    assert len(dataset) == 1
    assert dataset.counts == {"an odd number of messages": 1, "an unknown conversation_type": 1, "no embedding": 1}
    assert [problem.index for problem in dataset.problems] == [1, 2, 3]
    assert len(data.dialogues("test", [HST])[0]) == 1
    with pytest.raises(FileNotFoundError, match=r"conversations_complex.json: no such file"):
        data.load("train", ["multi_round"], processor=processor)
    (texts / "conversations_brief.json").write_text("[]")
    with pytest.raises(ValueError, match="has no conversations of type brief_description"):
        data.load("train", ["brief_description"], processor=processor)


def test_nerfs_without_an_encoder(nerf_root):
    with pytest.raises(ValueError, match="holds NeRFs, and this model has no encoder to embed them"):
        LanguageData(nerf_root).table("train", ["a"])
