import json
import shutil

import h5py
import numpy as np
import pytest
import torch

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.embeddings.files import (
    EMBEDDINGS_KEY,
    content_hash,
    content_hashes,
    is_embedding_file,
    read_embedding,
    read_embeddings,
    read_h5_embedding,
    read_vecs,
    write_embeddings,
    write_h5_embedding,
)
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.files import write_safetensors
from tests.conftest import GOLDEN

PATHS = ("d/mlp/02691156/a", "d/hash/02691156/a", "d/hash/02828884/b")
RELEASED = GOLDEN / "emb" / "golden" / "shapenet" / "hash" / "test"


def some(values=None):
    values = torch.arange(6.0).reshape(3, 2) if values is None else values
    return EmbeddingSet.of_nerfs(values, PATHS, hashes=("x", "y", "z"), encoder="f")


@pytest.mark.parametrize("name", ["e.safetensors", "e.npz"])
def test_what_is_written_is_read_back(tmp_path, name):
    write_embeddings(some(), tmp_path / name)
    read = read_embeddings(tmp_path / name)
    assert torch.equal(read.values, some().values)
    for field in ("object_ids", "families", "paths", "hashes", "encoder"):
        assert getattr(read, field) == getattr(some(), field)
    assert read_embeddings(tmp_path / name, family="X").families == ("X",) * 3


def test_files_of_before_there_were_hashes(tmp_path):
    about = {"paths": PATHS[:1], "class_ids": ["02691156"], "nerf_ids": ["a"]}
    metadata = {EMBEDDINGS_KEY: json.dumps({**about, "encoder": "f"})}
    write_safetensors({"embeddings": torch.ones(1, 2)}, tmp_path / "e.safetensors", metadata=metadata)
    np.savez(tmp_path / "e.npz", embeddings=np.ones((1, 2), dtype=np.float32), **about)
    for name, encoder in (("e.safetensors", "f"), ("e.npz", "")):
        read = read_embeddings(tmp_path / name)
        assert (read.hashes, read.encoder, read.paths) == (("",), encoder, PATHS[:1])


def test_h5_files_are_sorted_by_number(tmp_path):
    folder = tmp_path / "triplane" / "test"
    write_embeddings(some(), folder, indices=torch.tensor([0, 1, 10]))
    (folder / "10.h5").rename(folder / "2.h5")
    shutil.copy(folder / "0.h5", folder / "11.h5")
    read = read_embeddings(folder)  # 0, 1, 2, 11: by name it would be 0, 1, 11, 2
    assert read.values[:, 0].tolist() == [0.0, 2.0, 4.0, 0.0] and read.families == ("TRI",) * 4


def test_released_h5():
    read = read_embeddings(RELEASED)
    assert read.values.shape == (1, 1024) and read.families == ("HASH",)
    assert read.object_ids == (("02691156", "eee65f53e9421ce50211670eae679f02"),)


def test_one_embedding_in_a_file(tmp_path):
    np.save(tmp_path / "flat.npy", np.arange(3))
    np.save(tmp_path / "row.npy", np.arange(3.0)[None])
    write_h5_embedding(torch.arange(3.0), tmp_path / "e.h5", class_id="c", nerf_id="n")
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["embedding"] = np.arange(3.0)
    for name in ("flat.npy", "row.npy", "e.h5", "bare.h5"):
        assert is_embedding_file(tmp_path / name)
        assert torch.equal(read_embedding(tmp_path / name), torch.arange(3.0))
    values, class_id, nerf_id = read_h5_embedding(tmp_path / "e.h5")
    assert (values.tolist(), class_id, nerf_id) == ([0.0, 1.0, 2.0], "c", "n")
    assert not is_embedding_file("nerf_weights.pth") and not is_embedding_file("e.safetensors")
    with pytest.raises(ValueError, match=r"bare.h5: is no embedding .*class_id"):
        read_h5_embedding(tmp_path / "bare.h5")
    np.save(tmp_path / "two.npy", np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"two.npy: the embedding has shape \(2, 3\); expected one vector"):
        read_embedding(tmp_path / "two.npy")
    for name in ("gone.npy", "gone.h5"):
        with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
            read_embedding(tmp_path / name)


def test_vecs_nested_and_flat(tmp_path):
    (tmp_path / "vecs" / "batch_0").mkdir(parents=True)
    np.save(tmp_path / "vecs" / "a.npy", np.full(8, 1.0, dtype=np.float64))
    np.save(tmp_path / "vecs" / "batch_0" / "b.npy", np.full((1, 8), 2.0, dtype=np.float32))
    np.save(tmp_path / "vecs" / "wide.npy", np.zeros(9))
    np.save(tmp_path / "vecs" / "broken.npy", np.full(8, np.nan))
    np.save(tmp_path / "vecs" / "other.npy", np.zeros(8))
    (tmp_path / "vecs" / "empty.npy").touch()
    found = read_vecs(tmp_path / "vecs", object_ids={"a", "b", "wide", "broken", "empty"})
    assert found.families_of(["a", "b"]) == ["vecs"]
    assert found.lookup(["b", "a"], "vecs")[:, 0].tolist() == [2, 1]
    assert found.values.dtype == torch.float32
    assert set(found.rows) == {"a", "b"}
    problems = " | ".join(found.problems)
    assert "wide.npy: the embedding has shape (9,); expected (8,)" in problems
    assert "broken.npy: the embedding has NaN or infinite values" in problems
    assert "empty.npy: holds no embedding" in problems
    assert len(read_embeddings(tmp_path / "vecs")) == 3
    with pytest.raises(ValueError, match="holds no embeddings that can be used"):
        read_vecs(tmp_path / "vecs", object_ids={"gone"})
    with pytest.raises(FileNotFoundError, match="gone: no such directory"):
        read_vecs(tmp_path / "gone")


def test_content_decides_the_hash(tmp_path):
    first = save_nerf(Nerf.random("MLP-32H", seed=0), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save_nerf(Nerf.random("MLP-32H", seed=1), tmp_path / "c")
    found = content_hashes([tmp_path / "a", tmp_path / "b", first, tmp_path / "c", tmp_path / "gone"])
    assert found[0] == found[1] == found[2] == content_hash(first) != found[3]
    assert found[4] == ""


def test_bad_files(tmp_path):
    def expect(path, message, error=ValueError):
        with pytest.raises(error, match=message):
            read_embeddings(path)

    expect(tmp_path / "absent.npz", "no such file or directory; expected emb", FileNotFoundError)
    expect(tmp_path, "holds no <index>.h5")
    (tmp_path / "e.txt").write_text("x")
    expect(tmp_path / "e.txt", r"unknown kind '.txt'; expected .safetensors, .npz or a directory")
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 not really")
    expect(tmp_path / "e.npz", "holds no embeddings with their ids")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    expect(tmp_path / "cut.safetensors", "cut short")
    np.savez(tmp_path / "pickled.npz", embeddings=np.zeros((1, 2)), paths=np.array([{}], dtype=object))
    expect(tmp_path / "pickled.npz", "holds no embeddings with their ids")
    write_safetensors({"embeddings": torch.zeros(2, 3)}, tmp_path / "bare.safetensors")
    expect(tmp_path / "bare.safetensors", "holds no embeddings with their ids")
    nan = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [1.0, 1.0]])
    write_embeddings(some(nan), tmp_path / "nan.safetensors")
    expect(tmp_path / "nan.safetensors", r"embedding 1 \(02691156/a\) has NaN or infinity")
    about = {"paths": PATHS, "class_ids": ["c"] * 3, "nerf_ids": ["a", "b", "c"]}
    metadata = {EMBEDDINGS_KEY: json.dumps(about)}
    write_safetensors({"embeddings": torch.zeros(2, 2)}, tmp_path / "few.safetensors", metadata=metadata)
    expect(tmp_path / "few.safetensors", r"few.safetensors: .*shape \[2, 2\] and dtype torch.float32 for 3 NeRFs")
    folder = tmp_path / "h5"
    write_embeddings(some(), folder)
    (folder / "1.h5").write_bytes(b"x")
    expect(folder, "1.h5: is no embedding .*expected datasets")
