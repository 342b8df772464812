"""The benchmark of retrieval in its tiny form."""

import pytest

from llana_eval.representation import bench


@pytest.mark.usefixtures("in_this_process")
def test_tiny_run_compares_blocks_with_the_full_matrix():
    (result,) = bench.bench(**bench.TINY)
    blocks, full = result.figures["cases"]
    assert (blocks["way"], full["way"]) == ("blocks", "full") and blocks["count"] == 64
    assert blocks["recall"] == full["recall"] and 0 < blocks["recall"][10] < 1
    assert len(result.text.splitlines()) == 4


@pytest.mark.usefixtures("in_this_process")
def test_large_sizes_are_measured_in_blocks_only():
    *_, result = bench.bench(sizes="16,32", full_up_to=16, width=8)
    assert [(case["way"], case["count"]) for case in result.figures["cases"]] == [
        ("blocks", 16),
        ("full", 16),
        ("blocks", 32),
    ]


@pytest.mark.usefixtures("in_this_process")
def test_other_recalls_are_an_error(monkeypatch):
    monkeypatch.setattr(bench, "full_matrix_recall", lambda queries, gallery: {1: 0.0})
    with pytest.raises(ValueError, match="recalls differ at 64"):
        list(bench.bench(**bench.TINY))
