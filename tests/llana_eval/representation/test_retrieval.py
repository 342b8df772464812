import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from llana_eval import recall_at_k
from llana_eval.representation.retrieval import Ranks, random_recall, rank_matches
from tests.conftest import GOLDEN

PLANE = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])  # angles 0, 37, 90, 180 degrees


@pytest.mark.parametrize("case", ["case0", "case1", "case2"])
def test_golden(case):
    inputs = load_file(GOLDEN / "recall_inputs.safetensors")
    golden = json.loads((GOLDEN / "recall.json").read_text())[case]
    arguments = (inputs[f"{case}.query"], inputs[f"{case}.gallery"], golden["query_ids"], golden["gallery_ids"])
    for denominator, expected in (("queries", golden["per_query"]), ("gallery", golden["reference"])):
        found = recall_at_k(*arguments, denominator=denominator)
        assert found == pytest.approx({int(k): value for k, value in expected.items()}, abs=1e-12)


def test_by_hand():
    # Queries at 30, 40, 170 degrees are objects a, c, d. Nearest first: b a c d | b a c d | d c b a.
    angles = torch.tensor([30.0, 40.0, 170.0]).deg2rad()
    queries = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)  # their lengths do not matter
    ids = [("x", "a"), ("x", "c"), ("y", "d")]
    gallery_ids = [("x", "a"), ("x", "b"), ("x", "c"), ("y", "d")]
    found = recall_at_k(queries, PLANE, ids, gallery_ids, ks=(1, 2, 3, 9))
    assert found == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 1.0, 9: 1.0})
    assert recall_at_k(queries, PLANE, ids, gallery_ids, (2,), "gallery") == pytest.approx({2: 2 / 4})
    # The NeRF alone does not make the object: class z has an "a" too.
    assert recall_at_k(queries[:1], PLANE, [("z", "a")], gallery_ids, (4,)) == {4: 0.0}


def test_ties_are_worth_their_chance():
    # One query, four gallery items of equal cosine (b, c, d as long as a, or longer) behind one nearer item.
    gallery = np.array([[1.0, 0.0], [0.6, 0.8], [1.2, 1.6], [0.6, 0.8], [6.0, 8.0], [-1.0, 0.0]])
    ids = ["near", "a", "b", "c", "d", "far"]
    found = recall_at_k(torch.tensor([[1.0, 0.0]]), gallery, ["c"], ids, ks=(1, 2, 3, 5, 6))
    assert found == pytest.approx({1: 0.0, 2: 1 / 4, 3: 2 / 4, 5: 1.0, 6: 1.0})


def test_an_encoder_that_knows_nothing_scores_as_the_random_baseline():
    ids = [f"class/{i}" for i in range(40)]
    found = recall_at_k(torch.ones(40, 8), torch.full((40, 8), 3.0), ids, ids[::-1])
    assert found == pytest.approx({k: random_recall(k, 40) for k in (1, 5, 10)})


def test_several_tied_matches_by_hand():
    # 5 tied, 2 of them match, 2 drawn: 1 - C(3, 2) / C(5, 2) = 0.7; 4 drawn leave no room for a miss; one nearer item: k - 1.
    ranks = Ranks(torch.tensor([0, 1]), torch.tensor([5, 5]), torch.tensor([2, 2]), 9)
    assert ranks.hits(2).tolist() == pytest.approx([0.7, 0.4])
    assert ranks.hits(4).tolist() == pytest.approx([1.0, 1 - math.comb(3, 3) / math.comb(5, 3)])
    assert ranks.hits(1).tolist() == pytest.approx([0.4, 0.0])


def test_union_of_families_does_not_find_itself():
    # Objects a, b in two families: at 0, 10 degrees (first family) and 20, 95 degrees (second).
    angles = torch.tensor([0.0, 10.0, 20.0, 95.0]).deg2rad()
    union = torch.stack([angles.cos(), angles.sin()], dim=1)
    ids = ["a", "b", "a", "b"]
    # Nearest others: a0: b10 a20 | b10: a0 and a20 tied, b95 third | a20: b10 a0 | b95: a20 b10.
    assert recall_at_k(union, union, ids, ids, ks=(1, 2, 3)) == pytest.approx({1: 0.0, 2: 3 / 4, 3: 1.0})
    assert recall_at_k(union, union, ids, ids, ks=(2,), chunk_size=1) == pytest.approx({2: 3 / 4})
    # Where every object stands once, a set finds itself.
    assert recall_at_k(union, union.clone(), list("abcd"), list("abcd"), ks=(1,)) == {1: 1.0}


def brute_force(queries, gallery, query_ids, gallery_ids, k, union):
    """Expected hits over random orders of ties, from the full matrix."""
    total = 0.0
    for i, query in enumerate(queries):
        cosines = {
            j: float(query @ item / (np.linalg.norm(query) * np.linalg.norm(item)))
            for j, item in enumerate(gallery)
            if not (union and i == j)
        }
        relevant = [j for j in cosines if gallery_ids[j] == query_ids[i]]
        if not relevant:
            continue
        best = max(cosines[j] for j in relevant)
        ahead = sum(value > best + 1e-11 for value in cosines.values())
        tied = [j for j, value in cosines.items() if abs(value - best) <= 1e-11]
        drawn = max(0, min(k - ahead, len(tied)))
        matching = sum(j in relevant for j in tied)
        total += 1 - math.comb(len(tied) - matching, drawn) / math.comb(len(tied), drawn)
    return total / len(queries)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), union=st.booleans(), chunk=st.integers(1, 9), k=st.integers(1, 9))
def test_no_block_size_changes_the_result(data, union, chunk, k):
    # Small whole numbers, so that ties and copies are everywhere.
    vector = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)
    gallery = np.array(data.draw(st.lists(vector, min_size=1, max_size=9)), dtype=float)
    if union:
        queries, gallery_ids = gallery, [f"object {i // 2}" for i in range(len(gallery))]
        query_ids = gallery_ids
    else:
        queries = np.array(data.draw(st.lists(vector, min_size=1, max_size=7)), dtype=float)
        gallery_ids = [str(i) for i in range(len(gallery))]
        query_ids = [str(data.draw(st.integers(0, 9))) for _ in queries]
    union = union and len(gallery) > 1
    found = recall_at_k(queries, gallery, query_ids, gallery_ids, (k,), chunk_size=chunk)
    assert found[k] == pytest.approx(brute_force(queries, gallery, query_ids, gallery_ids, k, union), abs=1e-9)


def test_close_cosines_are_told_apart_in_float32_inputs():
    """Embeddings of an untrained encoder all point almost the same way."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(1024, generator=generator)
    gallery = centre + 1e-4 * torch.randn(300, 1024, generator=generator)
    queries = gallery + 1e-5 * torch.randn(300, 1024, generator=generator)
    ids = list(range(300))
    assert recall_at_k(queries, gallery, ids, ids, ks=(1,)) == {1: 1.0}


def test_extreme_lengths():
    gallery = PLANE.double() * torch.tensor([[1e-200], [1e200], [1.0], [1e-300]], dtype=torch.float64)
    assert recall_at_k(PLANE, gallery, list("abcd"), list("abcd"), ks=(1,)) == {1: 1.0}


def test_progress_counts_queries():
    seen = []
    rank_matches(
        torch.ones(5, 2), PLANE, list("abcde"), list("abcd"), chunk_size=2, progress=lambda *given: seen.append(given)
    )
    assert seen == [("searching", done, 5) for done in (2, 4, 5)]


NAN = torch.tensor([[1.0, 0.0], [0.8, math.nan], [0.0, 1.0], [-1.0, 0.0]])
ZERO = PLANE * torch.tensor([[1.0], [1.0], [0.0], [1.0]])
IDS = [("c", "a"), ("c", "b"), ("c", "c"), ("d", "a")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAN, PLANE, IDS, IDS), r"row 1 of the queries \(c/b\) is not finite"),
        ((PLANE, ZERO, IDS, IDS), r"row 2 of the gallery \(c/c\) is all zeros"),
        ((PLANE, PLANE, IDS[:3], IDS), "queries have 4 embeddings and 3 ids; expected one id each"),
        (
            (PLANE, PLANE[:3], IDS, ["a", "b", "a"]),
            "object a stands 2 times in the gallery; expected every object once",
        ),
        ((PLANE, torch.ones(4, 3), IDS, IDS), "queries are 2 wide and the gallery 3"),
        ((PLANE, PLANE[:0], IDS, []), r"gallery are empty, shape \[0, 2\]"),
        ((PLANE[0], PLANE, IDS, IDS), r"shape \[2\] and dtype torch.float32; expected floating-point embeddings"),
        ((PLANE.long(), PLANE, IDS, IDS), "dtype torch.int64"),
        ((PLANE, PLANE, IDS, IDS, (0, 1)), r"ks are \[0, 1\]"),
        ((PLANE, PLANE, IDS, IDS, ()), r"ks are \[\]"),
        ((PLANE, PLANE, IDS, IDS, (1,), "items"), "denominator is 'items'; expected 'queries' or 'gallery'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(*arguments)
