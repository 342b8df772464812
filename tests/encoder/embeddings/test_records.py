import shutil

import numpy as np
import pytest
import torch

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.embeddings.job import EmbeddedFiles, write_embeddings
from gmn_encoder.embeddings.records import embed_split, family_of, join_embeddings, read_embeddings
from gmn_encoder.files import write_safetensors
from tests.conftest import GOLDEN


def some(values=None, paths=("d/mlp/02691156/a", "d/hash/02691156/a", "d/hash/02828884/b")):
    values = torch.arange(6.0).reshape(3, 2) if values is None else values
    return EmbeddedFiles(tuple(paths), torch.tensor([0, 1, 10]), values, ())


@pytest.mark.parametrize("name", ["e.safetensors", "e.npz"])
def test_what_embed_writes_is_read_back(tmp_path, name):
    write_embeddings(some(), tmp_path / name, encoder_fingerprint="f")
    read = read_embeddings(tmp_path / name)
    assert torch.equal(read.values, some().embeddings)
    assert read.object_ids == (("02691156", "a"), ("02691156", "a"), ("02828884", "b"))
    assert read.families == ("MLP", "HASH", "HASH") and read.paths == some().paths
    families = read.by_family()
    assert list(families) == ["MLP", "HASH"] and families["HASH"].values.tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert read_embeddings(tmp_path / name, family="X").families == ("X",) * 3


def test_h5_files_are_sorted_by_number(tmp_path):
    folder = tmp_path / "triplane" / "test"
    write_embeddings(some(), folder, encoder_fingerprint="f")
    (folder / "10.h5").rename(folder / "2.h5")
    shutil.copy(folder / "0.h5", folder / "11.h5")
    read = read_embeddings(folder)  # 0, 1, 2, 11: by name it would be 0, 1, 11, 2
    assert read.values[:, 0].tolist() == [0.0, 2.0, 4.0, 0.0] and read.families == ("TRI",) * 4


def test_released_h5():
    read = read_embeddings(GOLDEN / "emb" / "golden" / "shapenet" / "hash" / "test")
    assert read.values.shape == (1, 1024) and read.families == ("HASH",)
    assert read.object_ids == (("02691156", "eee65f53e9421ce50211670eae679f02"),)


def test_families_by_directories():
    assert family_of("nerf/shapenet/triplane_unseen/16_resolution/02691156/a") == "triplane_unseen/16_resolution"
    assert family_of("nerf/shapenet/mlp/02691156/a/nerf_weights.pth") == "MLP"
    assert family_of("somewhere/else/a") is None


def test_joined_sets():
    pair = join_embeddings([read_embeddings(GOLDEN / "emb/golden/shapenet" / f / "test") for f in ("mlp", "hash")])
    assert pair.values.shape == (2, 1024) and pair.families == ("MLP", "HASH")
    with pytest.raises(ValueError, match="no embeddings cannot be joined"):
        join_embeddings([])


def test_bad_files(tmp_path):
    def expect(path, message, error=ValueError):
        with pytest.raises(error, match=message):
            read_embeddings(path)

    expect(tmp_path / "absent.npz", "no such file or directory", FileNotFoundError)
    expect(tmp_path, "holds no <index>.h5")
    (tmp_path / "e.txt").write_text("x")
    expect(tmp_path / "e.txt", r"unknown kind '.txt'; expected .safetensors, .npz or a directory")
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 not really")
    expect(tmp_path / "e.npz", "holds no embeddings with their ids")
    np.savez(tmp_path / "pickled.npz", embeddings=np.zeros((1, 2)), paths=np.array([{}], dtype=object))
    expect(tmp_path / "pickled.npz", "holds no embeddings with their ids")
    write_safetensors({"embeddings": torch.zeros(2, 3)}, tmp_path / "bare.safetensors")
    expect(tmp_path / "bare.safetensors", "holds no embeddings with their ids")
    nan = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [1.0, 1.0]])
    write_embeddings(some(nan), tmp_path / "nan.safetensors", encoder_fingerprint="f")
    expect(tmp_path / "nan.safetensors", r"embedding 1 \(02691156/a\) has NaN or infinity")
    write_embeddings(some(torch.zeros(2, 2)), tmp_path / "few.safetensors", encoder_fingerprint="f")
    expect(tmp_path / "few.safetensors", r"shape \[2, 2\] and dtype torch.float32 for 3 NeRFs")
    folder = tmp_path / "h5"
    write_embeddings(some(), folder, encoder_fingerprint="f")
    (folder / "1.h5").write_bytes(b"x")
    expect(folder, "1.h5: is no embedding; expected datasets")


def test_embed_split_keeps_and_finds_again(tmp_path, small_encoder):
    for i in range(3):
        save_nerf(Nerf.random("MLP-32H", seed=i), tmp_path / "data" / "mlp" / "02691156" / f"n{i}")
    (tmp_path / "data" / "test.txt").write_text("02691156/n2\n02691156/n0\n02691156/absent\n")
    out, counts = tmp_path / "kept.safetensors", []
    options = {"family": "mlp", "split": "test", "out": out}
    first, errors = embed_split(tmp_path / "data", small_encoder, **options, on_chunk=counts.append)
    assert [name for _, name in first.object_ids] == ["n2", "n0"] and first.families == ("MLP", "MLP")
    assert sum(counts) == 3 and len(errors) == 1 and "absent" in errors[0]
    written = out.stat().st_mtime_ns
    again, errors = embed_split(tmp_path / "data", small_encoder, **options)
    assert out.stat().st_mtime_ns == written and torch.equal(again.values, first.values) and "absent" in errors[0]
    with pytest.raises(ValueError, match="holds embeddings of another encoder or of other NeRFs"):
        (tmp_path / "data" / "test.txt").write_text("02691156/n1\n")
        embed_split(tmp_path / "data", small_encoder, **options)
