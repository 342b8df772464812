import pytest
import torch

from gmn_encoder.embeddings.records import EmbeddingSet, family_of, join_embeddings


def test_families_by_directories():
    assert family_of("nerf/shapenet/triplane_unseen/16_resolution/02691156/a") == "triplane_unseen/16_resolution"
    assert family_of("nerf/shapenet/mlp/02691156/a/nerf_weights.pth") == "MLP"
    assert family_of("somewhere/else/a") is None


def test_rows_of_nerfs_are_named_by_their_paths():
    paths = ["d/mlp/02691156/a", "d/mine/02828884/b/nerf_weights.pth"]
    found = EmbeddingSet.of_nerfs(torch.eye(2), paths)
    assert found.object_ids == (("02691156", "a"), ("02828884", "b"))
    assert found.families == ("MLP", "mine") and found.paths == tuple(paths) and found.hashes == ("", "")
    assert EmbeddingSet.of_nerfs(torch.eye(2), paths, family="X").families == ("X", "X")


def test_joined_sets():
    first = EmbeddingSet.of_nerfs(torch.eye(2).double(), ["mlp/1/a", "mlp/1/b"], hashes=("x", "y"), encoder="f")
    second = EmbeddingSet.of_nerfs(torch.ones(1, 2), ["hash/1/a"], encoder="g", problems=("one is broken",))
    pair = join_embeddings([first, second])
    assert pair.values.tolist() == [[1, 0], [0, 1], [1, 1]] and pair.values.dtype == torch.float32
    assert pair.families == ("MLP", "MLP", "HASH") and pair.hashes == ("x", "y", "")
    assert (pair.encoder, pair.problems) == ("", ("one is broken",))
    families = pair.by_family()
    assert list(families) == ["MLP", "HASH"] and families["MLP"].hashes == ("x", "y")
    with pytest.raises(ValueError, match="no embeddings cannot be joined"):
        join_embeddings([])
    with pytest.raises(ValueError, match="embeddings 2 and 3 wide cannot be joined"):
        join_embeddings([first, EmbeddingSet.of_nerfs(torch.ones(1, 3), ["hash/1/a"])])


def test_lookup_by_object_and_family():
    paths = ("mlp/1/x", "mlp/2/x", "mlp/2/y", "hash/2/y", "mlp/2/y")
    found = EmbeddingSet.of_nerfs(torch.arange(5.0)[:, None], paths)
    assert found.ambiguous == {"x"} and set(found.rows) == {"1/x", "2/x", "2/y", "y"}
    assert found.families_of(["y", "1/x"]) == ["MLP"] and found.families_of(["2/y"]) == ["MLP", "HASH"]
    assert found.families_of(["x"]) == []
    assert found.lookup(["2/x", "y"], "MLP").tolist() == [[1], [2]]
    assert found.repeated == ("mlp/2/y: 2/y is there twice as MLP; the first is used",)
    with pytest.raises(KeyError):
        found.lookup(["1/x"], "HASH")


def test_rows_and_ids_in_other_numbers():
    with pytest.raises(
        ValueError, match=r"shape \[2, 2\] and dtype torch.float32 for 1 NeRFs; expected an embedding each"
    ):
        EmbeddingSet(torch.eye(2), (("c", "a"),), ("MLP",))
