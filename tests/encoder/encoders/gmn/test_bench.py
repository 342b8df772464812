"""The benchmark of the encoder in its tiny form."""

import pytest
import torch

from gmn_encoder import Nerf, parameter_graph
from gmn_encoder.encoders.gmn import bench


def test_the_usual_way_gives_the_encoders_embedding(golden_encoder64):
    nerf = Nerf.random("MLP-nano")
    usual = bench.usual_way(golden_encoder64, parameter_graph(nerf))
    torch.testing.assert_close(usual, golden_encoder64.encode([nerf]), rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("in_this_process")
def test_tiny_run_compares_both_paths():
    (result,) = bench.bench(**bench.TINY, device="cpu")
    (family,) = result.figures["families"].values()
    assert set(family) == {"edges", "cases", "file_to_embedding", "throughput"}
    assert list(family["cases"]) == ["edge list", "float32", "bfloat16"]
    for case in family["cases"].values():
        assert 0 < case["best"] <= case["median"]
    assert family["cases"]["edge list"]["speedup_best"] == 1
    assert family["cases"]["float32"]["relative_difference"] < 1e-4
    assert family["cases"]["bfloat16"]["cosine"] == pytest.approx(1, abs=1e-3)
    assert len(result.text.splitlines()) == 2 + 3 + 1  # heading, cases, file to embedding
