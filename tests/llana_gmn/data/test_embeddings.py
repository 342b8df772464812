"""Where embeddings come from: vecs, files of `embed`, NeRFs through the cache. Broken ones are named."""

import shutil

import numpy as np
import pytest
import torch

from gmn_encoder.embeddings.job import EmbeddedFiles, write_embeddings
from gmn_encoder.nerfs.files import save_nerf
from llana_gmn.data.conversations import HST
from llana_gmn.data.embeddings import EmbeddingCache, embed_nerfs, read_embeddings, read_vecs
from llana_gmn.data.sources import LanguageData


def test_vecs_nested_and_flat(tmp_path):
    (tmp_path / "vecs" / "batch_0").mkdir(parents=True)
    np.save(tmp_path / "vecs" / "a.npy", np.full(8, 1.0, dtype=np.float64))
    np.save(tmp_path / "vecs" / "batch_0" / "b.npy", np.full((1, 8), 2.0, dtype=np.float32))
    np.save(tmp_path / "vecs" / "wide.npy", np.zeros(9))
    np.save(tmp_path / "vecs" / "broken.npy", np.full(8, np.nan))
    np.save(tmp_path / "vecs" / "other.npy", np.zeros(8))
    (tmp_path / "vecs" / "empty.npy").touch()
    table = read_vecs(tmp_path / "vecs", object_ids={"a", "b", "wide", "broken", "empty"})
    assert table.variants_of(["a", "b"]) == ["vecs"]
    assert table.lookup(["b", "a"], "vecs")[:, 0].tolist() == [2, 1]
    assert table.embeddings.dtype == torch.float32
    assert set(table.rows) == {"a", "b"}
    problems = " | ".join(table.problems)
    assert "wide.npy: the embedding has shape (9,); expected (8,)" in problems
    assert "broken.npy: the embedding has NaN or infinite values" in problems
    assert "empty.npy: holds no embedding" in problems
    with pytest.raises(ValueError, match="holds no embeddings that can be used"):
        read_vecs(tmp_path / "vecs", object_ids={"gone"})
    with pytest.raises(FileNotFoundError, match="gone: no such directory"):
        read_vecs(tmp_path / "gone")


@pytest.mark.parametrize("name", ["e.safetensors", "e.npz", "folder"])
def test_files_of_embed(tmp_path, name):
    paths = ("nerf/mlp/0001/x", "nerf/mlp/0002/x", "nerf/mlp/0002/y")
    result = EmbeddedFiles(paths, torch.arange(3), torch.eye(3, 4), ())
    write_embeddings(result, tmp_path / name, encoder_fingerprint="f")
    table = read_embeddings({"mlp": tmp_path / name, "hash": tmp_path / name})
    assert table.ambiguous == {"x"}
    assert "x" not in table.rows
    assert table.variants_of(["y", "0001/x"]) == ["mlp", "hash"]
    assert torch.equal(table.lookup(["0002/x", "y"], "hash"), torch.eye(3, 4)[1:])


def test_bad_files_of_embed(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for name, message in [
        ("other.npz", "other.npz: "),
        ("cut.safetensors", "cut short"),
        ("no.npz", "no such file or directory; expected emb"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_embeddings({"mlp": tmp_path / name})


@pytest.fixture
def nerf_root(tmp_path, nerfs):
    for family, nerf in zip(("mlp", "triplane", "hash"), nerfs, strict=True):
        for name in ("a", "b"):
            save_nerf(nerf, tmp_path / "data" / family / "0001" / name / "nerf.safetensors")
    return tmp_path / "data"


def test_nerfs_are_embedded_once(nerf_root, small_encoder, nerfs, tmp_path, monkeypatch):
    make = {"cache": tmp_path / "cache", "object_ids": {"a"}}
    table = embed_nerfs(nerf_root, ("mlp", "hash"), small_encoder, **make)
    expected = small_encoder.encode([nerfs[0], nerfs[2]])
    torch.testing.assert_close(table.lookup(["a"], "mlp")[0], expected[0])
    torch.testing.assert_close(table.lookup(["0001/a"], "hash")[0], expected[1])
    # Equal files under other names are known already, and so is everything the second time.
    monkeypatch.setattr(type(small_encoder), "encode", lambda *a, **k: pytest.fail("embedded again"))
    again = embed_nerfs(nerf_root, ("mlp", "hash"), small_encoder, cache=tmp_path / "cache")
    assert torch.equal(again.lookup(["b"], "mlp"), table.lookup(["a"], "mlp"))
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_another_encoder_has_a_cache_of_its_own(nerf_root, small_encoder, golden_encoder, tmp_path):
    first, second = (EmbeddingCache(tmp_path, each) for each in (small_encoder, golden_encoder))
    assert first.directory != second.directory
    first.embed({"x": nerf_root / "mlp" / "0001" / "a"})
    assert list(first.read()) == ["x"]
    assert not second.read()


def test_broken_nerfs_are_named(nerf_root, small_encoder, tmp_path):
    (nerf_root / "mlp" / "0001" / "a" / "nerf.safetensors").write_bytes(b"broken")
    shutil.rmtree(nerf_root / "mlp" / "0001" / "b")
    (nerf_root / "mlp" / "0001" / "b").mkdir()
    table = embed_nerfs(nerf_root, ("mlp", "hash"), small_encoder, cache=tmp_path / "cache")
    assert table.variants == ("hash",)
    assert len(table.problems) == 2
    with pytest.raises(ValueError, match=r"holds no embeddings that can be used .*0001/[ab]"):
        embed_nerfs(nerf_root, ("mlp",), small_encoder, cache=tmp_path / "cache")


def test_a_split_of_released_data(tmp_path, processor):
    """ShapeNeRF-Text: texts and vecs; the human-written descriptions stand in the root."""
    texts = tmp_path / "train" / "texts"
    texts.mkdir(parents=True)
    said = [{"from": "human", "value": "<point>\nWhat?"}, {"from": "gpt", "value": "A chair."}]
    entry = {"object_id": "a", "conversation_type": "brief_description", "conversations": said}
    odd = {**entry, "conversations": said[:1]}
    unknown = {**entry, "conversation_type": "poem"}
    import json

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
