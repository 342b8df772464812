import shutil

import pytest
import torch

from gmn_encoder import Nerf, load_nerf, save_nerf
from gmn_encoder.embeddings import job as embedding_jobs
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.locks import output_lock


@pytest.fixture
def family(tmp_path):
    for i in range(3):
        save_nerf(Nerf.random("MLP-32H", seed=i), tmp_path / "data" / "mlp" / "02691156" / f"n{i}")
    (tmp_path / "data" / "test.txt").write_text("02691156/n2\n02691156/n0\n02691156/absent\n")
    return tmp_path / "data" / "mlp"


def parts(cache):
    return {part: part.stat().st_mtime_ns for part in cache.directory.rglob("*.safetensors")}


def test_a_split_is_embedded_once(family, tmp_path, small_encoder):
    cache = EmbeddingCache(tmp_path / "cache", small_encoder)
    told = []
    first = cache.embed_family(family, split="test", progress=lambda *given: told.append(given))
    assert [name for _, name in first.object_ids] == ["n2", "n0"] and first.families == ("MLP", "MLP")
    assert len(first.problems) == 1 and "absent" in first.problems[0]
    assert told[2] == ("looking at NeRFs", 3, 3) and told[-1] == ("embedding NeRFs", 2, 2)
    torch.testing.assert_close(first.values, small_encoder.encode([load_nerf(path) for path in first.paths]))
    there = parts(cache)
    again = cache.embed_family(family, split="test")
    assert parts(cache) == there and torch.equal(again.values, first.values) and again.problems == first.problems
    moved = shutil.move(family, tmp_path / "data" / "elsewhere")
    assert torch.equal(cache.embed_family(moved, split="test").values, first.values) and parts(cache) == there
    assert len(cache.embed_family(moved)) == 3 and len(parts(cache)) == 2  # the third is embedded, the others known
    assert not list(tmp_path.rglob("*.partial"))


def test_a_nerf_fitted_anew_in_its_place_is_embedded_anew(family, tmp_path, small_encoder):
    before = EmbeddingCache(tmp_path / "cache", small_encoder).embed_family(family)
    anew = Nerf.random("MLP-32H", seed=9)
    save_nerf(anew, family / "02691156" / "n1")
    after = EmbeddingCache(tmp_path / "cache", small_encoder).embed_family(family)
    assert after.paths == before.paths
    assert torch.equal(after.values[[0, 2]], before.values[[0, 2]])
    torch.testing.assert_close(after.values[1:2], small_encoder.encode([anew]))


def test_a_given_architecture_is_part_of_the_key(family, tmp_path, small_encoder):
    cache = EmbeddingCache(tmp_path, small_encoder)
    nerf = load_nerf(family / "02691156" / "n0")
    detected = cache.embed([family / "02691156" / "n0"])
    given = cache.embed([family / "02691156" / "n0"], architecture=nerf.architecture)
    assert len(parts(cache)) == 2
    torch.testing.assert_close(given.values, detected.values)


def test_another_encoder_has_a_cache_of_its_own(family, tmp_path, small_encoder, golden_encoder):
    first, second = (EmbeddingCache(tmp_path / "cache", each) for each in (small_encoder, golden_encoder))
    assert first.embed_family(family).encoder == small_encoder.fingerprint()
    assert parts(first) and not parts(second)


def test_a_killed_call_continues(family, tmp_path, small_encoder, monkeypatch):
    monkeypatch.setattr(embedding_jobs, "CHUNK_SIZE", 1)
    cache = EmbeddingCache(tmp_path / "cache", small_encoder)

    def stop(what, done, total):
        if (what, done) == ("embedding NeRFs", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.embed_family(family, progress=stop)
    told = []
    found = cache.embed_family(family, progress=lambda *given: told.append(given))
    assert len(found) == 3
    assert [given for given in told if given[0] == "embedding NeRFs"] == [("embedding NeRFs", n, 3) for n in (2, 3)]


def test_what_cannot_be_embedded_is_named(family, tmp_path, small_encoder):
    cache = EmbeddingCache(tmp_path / "cache", small_encoder)
    for name in ("n0", "n1"):
        (family / "02691156" / name / "nerf_weights.pth").write_bytes(b"broken")
    (family / "02691156" / "n2" / "nerf_weights.pth").unlink()
    with pytest.raises(ValueError, match=r"mlp: none of 3 NeRFs could be embedded \(.*n2"):
        cache.embed_family(family)
    found = cache.embed([family / "02691156" / f"n{i}" for i in range(3)])
    assert len(found) == 0
    assert all(
        f"n{i}: " in message.replace("/nerf_weights.pth", "")
        for i, message in zip((2, 1, 0), found.problems, strict=True)
    )
    assert found.values.shape == (0, small_encoder.embedding_dim)


def test_who_comes_second_waits_and_takes_what_the_first_made(family, tmp_path, small_encoder, monkeypatch, caplog):
    cache = EmbeddingCache(tmp_path / "cache", small_encoder)
    first = EmbeddingCache(tmp_path / "cache", small_encoder)
    held = output_lock(cache.directory / "embeddings")
    held.__enter__()
    paths = sorted(family.glob("*/*"))

    def meanwhile(_):  # the first one ends
        held.__exit__(None, None, None)
        monkeypatch.undo()
        first.embed(paths)

    monkeypatch.setattr("gmn_encoder.locks.time.sleep", meanwhile)
    found = cache.embed(paths)
    assert len(found) == len(first.embed(paths)) and not list(cache.directory.glob(".*"))
    assert len(list(cache.directory.glob("*.safetensors"))) == 1
    assert "is being written by process" in caplog.text and ": waiting" in caplog.text
