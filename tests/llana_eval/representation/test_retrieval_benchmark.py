import pytest
import torch

from gmn_encoder.embeddings.records import EmbeddingSet
from llana_eval.representation.retrieval_benchmark import retrieval_table, run_retrieval


def members(family, degrees, names):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    values = torch.stack([angles.cos(), angles.sin()], dim=1).float()
    return EmbeddingSet(values, tuple(("c", name) for name in names), (family,) * len(names), ("",) * len(names))


FAMILIES = {"MLP": members("MLP", [0, 50], "ab"), "TRI": members("TRI", [20, 71, 90], "bac")}


def test_every_pair_by_hand():
    # MLP/TRI  a0: b20 a71 c90     b50: b at 30, a at 21 degrees, c at 40   hits at 1, 2, 3: 0, 2, 2 of 2
    # TRI/MLP  b20: a0 (20), b50 (30)   a71: b50 (21), a0   c90: not there   hits at 1, 2: 0, 2 of 3
    # ALL/ALL  a0: b20 b50 a71 | b50: a71 b20 | b20: a0 b50 | a71: c90 b50 b20 a0 | c90: none    hits at 1, 2, 3: 0, 2, 3 of 5
    results = {result.name: result for result in run_retrieval(FAMILIES, ks=(1, 2, 3))}
    assert list(results) == ["ALL/ALL", "MLP/TRI", "TRI/MLP"]
    assert results["MLP/TRI"].recall == pytest.approx({1: 0, 2: 1, 3: 1})
    assert results["TRI/MLP"].recall == pytest.approx({1: 0, 2: 2 / 3, 3: 2 / 3})
    assert results["ALL/ALL"].recall == pytest.approx({1: 0, 2: 2 / 5, 3: 3 / 5})
    assert [results[name].unmatched for name in results] == [1, 0, 1]
    released = {result.name: result for result in run_retrieval(FAMILIES, ks=(2,), denominator="gallery")}
    assert released["MLP/TRI"].recall == pytest.approx({2: 2 / 3}) and released["TRI/MLP"].recall[2] == 1.0


def test_table_has_the_papers_layout():
    table = retrieval_table(run_retrieval(FAMILIES, ks=(1, 2)))
    assert [column.name for column in table.columns] == ["Method", "k", "ALL/ALL", "MLP/TRI", "TRI/MLP"]
    assert table.rows[0] == ("RANDOM", 1, 20.0, pytest.approx(100 / 3), 50.0)
    assert [row[:2] for row in table.rows] == [("RANDOM", 1), ("this encoder", 1), ("RANDOM", 2), ("this encoder", 2)]
    assert "count as misses: 1 of ALL/ALL, 1 of TRI/MLP" in table.note


def test_progress_counts_every_query():
    seen = []
    run_retrieval(FAMILIES, progress=lambda *given: seen.append(given))
    assert seen == [("searching", done, 10) for done in (5, 5 + 2, 5 + 2 + 3)]


def test_bad_input():
    with pytest.raises(ValueError, match="two families or more; got MLP"):
        run_retrieval({"MLP": FAMILIES["MLP"]})
    twice = {"MLP": FAMILIES["MLP"], "TRI": members("TRI", [1, 2, 3], "aab")}
    with pytest.raises(ValueError, match="MLP/TRI: object c/a stands 2 times in the gallery"):
        run_retrieval(twice)
