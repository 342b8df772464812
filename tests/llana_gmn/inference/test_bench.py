"""The benchmark of generation in its tiny form."""

from llana_gmn.inference import bench


def test_tiny_run_measures_overhead_and_throughput():
    (result,) = bench.bench(**bench.TINY, device="cpu")
    single, batch = result.figures["overhead"]
    assert (single["batch"], batch["batch"]) == (1, 2)
    for row in (single, batch):
        assert row["new_tokens"] == 2 and row["prompt_tokens"] > 10 and row["encoder_seconds"] > 0
        ratio = row["seconds_with_nerf"] / row["seconds_bare_backbone"]
        assert abs(100 * (ratio - 1) - row["more_percent"]) < 1e-6
    assert [row["inputs"] for row in result.figures["throughput"]] == ["NeRFs", "embeddings"]
    assert all(row["captions_per_second_batch_16"] > 0 for row in result.figures["throughput"])
    assert result.variant == "tiny"
    assert "| 2 | " in result.text and "| embeddings | 2 |" in result.text


def test_shapes_differ_in_size():
    import torch

    models = {
        shape: bench.random_model(shape, dtype=torch.bfloat16, device=torch.device("cpu"))[0]
        for shape in ("tiny", "small")
    }
    sizes = {shape: sum(p.numel() for p in model.language_model.parameters()) for shape, model in models.items()}
    assert sizes["small"] > 100 * sizes["tiny"]
    assert next(models["small"].language_model.parameters()).dtype == torch.bfloat16
