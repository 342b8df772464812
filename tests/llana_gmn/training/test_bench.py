"""The benchmark of language training in its tiny form."""

import pytest

from llana_gmn.training import bench


@pytest.mark.usefixtures("in_this_process")
def test_tiny_run_trains_both_ways_on_the_same_adapter():
    (result,) = bench.bench(**bench.TINY, device="cpu")
    plain, ours = result.figures["ways"]
    assert (plain["way"], ours["way"]) == ("plain", "ours")
    assert (plain["batch_size"], plain["steps"], plain["samples"]) == (1, 4, 4)
    assert (ours["batch_size"], ours["steps"], ours["samples"]) == (2, 1, 2)
    assert plain["embedding_seconds"] is None and ours["embedding_seconds"] > 0
    assert 0 < plain["trainable"] == ours["trainable"] < plain["parameters"] == ours["parameters"]
    assert result.figures["times"] == ours["samples_per_second"] / plain["samples_per_second"]
    assert "| plain | 1 |" in result.text and "| ours | 2 |" in result.text
