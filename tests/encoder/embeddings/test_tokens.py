"""Rows of several tokens: written, read, joined, made by jobs and kept by caches beside those of one vector."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.embeddings import job as embedding_jobs
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.files import read_embedding, read_embeddings, read_vecs, write_embeddings
from gmn_encoder.embeddings.job import EmbeddingJob
from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.encoders.base import num_tokens
from tests.encoder.encoders.moments import MomentsConfig, MomentsEncoder

PATHS = ("d/mlp/02691156/a", "d/hash/02691156/a", "d/hash/02828884/b")


def some():
    return EmbeddingSet.of_nerfs(torch.arange(24.0).view(3, 4, 2), PATHS, hashes=("x", "y", "z"), encoder="f")


@pytest.fixture
def encoder():
    return MomentsEncoder(MomentsConfig(embedding_dim=5, num_tokens=3)).eval()


@pytest.fixture
def files(tmp_path):
    return [save_nerf(Nerf.random("MLP-nano", seed=i), tmp_path / f"{i}.safetensors") for i in range(5)]


@pytest.mark.parametrize("name", ["e.safetensors", "e.npz"])
def test_what_is_written_is_read_back(tmp_path, name):
    write_embeddings(some(), tmp_path / name)
    read = read_embeddings(tmp_path / name)
    assert torch.equal(read.values, some().values) and (read.row_shape, read.dim) == ((4, 2), 2)
    assert torch.equal(read.select([2, 0]).values, some().values[[2, 0]])
    assert torch.equal(read.lookup(["b"], "HASH"), some().values[2:])
    broken = some()
    broken.values[1, 3, 0] = torch.nan
    write_embeddings(broken, tmp_path / name)
    with pytest.raises(ValueError, match=r"embedding 1 \(02691156/a\) has NaN or infinity"):
        read_embeddings(tmp_path / name)


def test_other_shapes(tmp_path):
    with pytest.raises(ValueError, match="which hold one vector a NeRF; write tokens to"):
        write_embeddings(some(), tmp_path / "folder")
    with pytest.raises(ValueError, match="embeddings 2 and 4 x 2 wide cannot be joined"):
        join_embeddings([some(), EmbeddingSet.of_nerfs(torch.ones(1, 2), PATHS[:1])])
    assert join_embeddings([some(), some()]).row_shape == (4, 2)
    with pytest.raises(ValueError, match=r"shape \[3, 1, 1, 1\]"):
        EmbeddingSet.of_nerfs(torch.ones(3, 1, 1, 1), PATHS)


def test_files_of_one_nerf(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.ones((4, 2), dtype=np.float32))
    np.save(tmp_path / "c.npy", np.ones(2, dtype=np.float32))
    assert read_embedding(tmp_path / "a.npy", tokens=True).shape == (4, 2)
    assert read_embedding(tmp_path / "c.npy", tokens=True).shape == (2,)
    with pytest.raises(ValueError, match=r"shape \(4, 2\); expected one vector"):
        read_embedding(tmp_path / "a.npy")
    found = read_vecs(tmp_path, tokens=True)
    assert found.row_shape == (4, 2) and len(found) == 2
    assert found.problems == (f"{tmp_path / 'c.npy'}: the embedding has shape (2,); expected (4, 2)",)


def test_a_killed_job_of_tokens_continues(tmp_path, files, encoder, monkeypatch):
    monkeypatch.setattr(embedding_jobs, "CHUNK_SIZE", 2)
    out = tmp_path / "tokens.safetensors"
    EmbeddingJob(files, encoder, out=out, tokens=True).run(rank=0, world_size=2)
    with pytest.raises(FileExistsError, match="holds an unfinished job with other contents"):
        EmbeddingJob(files, encoder, out=out)
    job = EmbeddingJob(files, encoder, out=out, tokens=True)
    job.run()
    result = job.finish()
    torch.testing.assert_close(
        result.values, encoder.encode_tokens([Nerf.random("MLP-nano", seed=i) for i in range(5)])
    )


def test_one_token_is_the_vector_and_a_job_as_ever(tmp_path, files, small_encoder):
    assert num_tokens(small_encoder.config) == 1
    job = EmbeddingJob(files, small_encoder, out=tmp_path / "e.safetensors", tokens=True)
    assert "tokens" not in json.loads((tmp_path / "e.safetensors.partial" / "job.json").read_text())
    job.run()
    assert job.finish().row_shape == (24,)
    cache = EmbeddingCache(tmp_path / "cache", small_encoder, tokens=True)
    assert cache.directory == EmbeddingCache(tmp_path / "cache", small_encoder).directory


def test_caches_of_vectors_and_of_tokens_do_not_meet(tmp_path, files, encoder, monkeypatch):
    vectors, tokens = (EmbeddingCache(tmp_path / "cache", encoder, tokens=each) for each in (False, True))
    assert tokens.embed(files).row_shape == (3, 5)
    assert vectors.embed(files).row_shape == (5,)
    monkeypatch.setattr(MomentsEncoder, "encode_tokens", lambda *_, **__: pytest.fail("encoded again"))
    torch.testing.assert_close(tokens.embed(files).values.mean(dim=1), vectors.embed(files).values)
    assert tokens.embed([]).row_shape == (3, 5) and vectors.embed([]).row_shape == (5,)
