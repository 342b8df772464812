"""nf2vec's encoder against the published description written out in numpy, its files, and the NeRFs it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gmn_encoder import (
    MlpArchitecture,
    Nerf,
    NerfEncoder,
    Nf2vecConfig,
    Nf2vecEncoder,
    TriplaneArchitecture,
    load_encoder,
    load_nerf,
    save_nerf,
)
from gmn_encoder.embeddings.job import EmbeddingJob
from gmn_encoder.encoders.frozen import frozen_copy
from tests.conftest import GOLDEN_NERF

RELEASED = {0: (512, 64, 1), 3: (512, 512, 1), 6: (1024, 512, 1), 9: (1024, 1024, 1), 12: (1024, 1024, 1)}
"""Convolutions of the released state dict (docs/released_format.md#nf2vec); after all but the last comes a batch norm."""


def released_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for i, shape in RELEASED.items():
        units, inputs, _ = shape
        state[f"layers.{i}.weight"] = torch.randn(shape, generator=generator) * (2 / inputs) ** 0.5
        state[f"layers.{i}.bias"] = torch.randn(units, generator=generator) * 0.1
        if i < 12:
            state[f"layers.{i + 1}.weight"] = 1 + torch.randn(units, generator=generator) * 0.1
            state[f"layers.{i + 1}.bias"] = torch.randn(units, generator=generator) * 0.1
            state[f"layers.{i + 1}.running_mean"] = torch.randn(units, generator=generator) * 0.2
            state[f"layers.{i + 1}.running_var"] = 0.5 + torch.rand(units, generator=generator)
            state[f"layers.{i + 1}.num_batches_tracked"] = torch.tensor(1000)
    return state


def reference(state: dict[str, torch.Tensor], params: torch.Tensor) -> np.ndarray:
    """The description, one row at a time, in float64."""
    weights = {key: tensor.double().numpy() for key, tensor in state.items()}
    values = np.concatenate([params.double().numpy(), np.zeros(48 * 64)])
    best = None
    for start in range(0, len(values), 64):
        row = values[start : start + 64]
        for i in RELEASED:
            row = weights[f"layers.{i}.weight"][:, :, 0] @ row + weights[f"layers.{i}.bias"]
            if i < 12:
                norm = f"layers.{i + 1}."
                row = (row - weights[norm + "running_mean"]) / np.sqrt(weights[norm + "running_var"] + 1e-5)
                row = np.maximum(row * weights[norm + "weight"] + weights[norm + "bias"], 0)
        best = row if best is None else np.maximum(best, row)
    return best


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("nf2vec") / "500.pt"
    torch.save({"epoch": 500, "encoder": released_state(), "decoder": {}, "best_psnr": 30.0}, path)
    return path


def test_a_released_checkpoint_gives_the_described_embeddings(checkpoint):
    encoder = load_encoder(checkpoint)
    assert isinstance(encoder, Nf2vecEncoder)
    assert isinstance(encoder, NerfEncoder)
    assert encoder.config == Nf2vecConfig()
    shallow = Nerf.random(MlpArchitecture(hidden_layers=2), seed=3)
    nerfs = [load_nerf(GOLDEN_NERF["MLP"]), shallow, Nerf.random("MLP", seed=4)]
    embeddings = encoder.encode(nerfs, batch_size=2)
    assert (embeddings.shape, embeddings.dtype) == ((3, 1024), torch.float32)
    for embedding, nerf in zip(embeddings, nerfs, strict=True):
        expected = reference(released_state(), nerf.tensors["mlp_base.params"])
        np.testing.assert_allclose(embedding.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert (embeddings[0] - embeddings[2]).abs().max() > 0.1
    torch.testing.assert_close(encoder.encode_tokens(nerfs), embeddings[:, None])
    half = encoder.encode(nerfs, dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    assert 0 < (half - embeddings).abs().max() < 0.1 * embeddings.abs().max()


def test_the_saved_statistics_are_used_and_stay(checkpoint):
    encoder = load_encoder(checkpoint)
    nerf = Nerf.random("MLP")
    before, expected = encoder.fingerprint(), encoder.encode([nerf])
    encoder.train()
    torch.testing.assert_close(encoder.encode([nerf, Nerf.random("MLP", seed=1)])[:1], expected)
    assert encoder.fingerprint() == before


def test_saved_opened_frozen(checkpoint, tmp_path):
    encoder = load_encoder(checkpoint)
    encoder.save_pretrained(tmp_path)
    again = load_encoder(tmp_path)
    assert isinstance(again, Nf2vecEncoder)
    assert again.config == encoder.config
    assert again.fingerprint() == encoder.fingerprint() != Nf2vecEncoder().fingerprint()
    nerf = Nerf.random("MLP")
    frozen = frozen_copy(encoder).bfloat16()
    assert not list(frozen.parameters())
    assert frozen.fingerprint() == encoder.fingerprint()
    torch.testing.assert_close(frozen.encode([nerf]), encoder.encode([nerf]))
    small = Nf2vecConfig(nerf_hidden_dim=32, hidden_dims=(8, 6), embedding_dim=5, nerf_frequencies=8)
    assert Nf2vecConfig.from_dict(small.to_dict()) == small
    torch.save(Nf2vecEncoder(small).state_dict(), tmp_path / "small.pt")
    assert load_encoder(tmp_path / "small.pt").config == dataclasses.replace(small, nerf_frequencies=24)


@pytest.mark.parametrize(
    "architecture",
    [
        MlpArchitecture(hidden_dim=32),
        MlpArchitecture(frequencies=8),
        MlpArchitecture(bias=True),
        TriplaneArchitecture(resolution=4, channels=8),
    ],
)
def test_other_nerfs_are_refused(checkpoint, architecture):
    nerf = Nerf.random(architecture)
    message = r"nf2vec reads MLP NeRFs with layers of 64, 24 frequencies \(144 inputs\) and no biases only"
    with pytest.raises(ValueError, match=message) as error:
        load_encoder(checkpoint).encode([Nerf.random("MLP"), nerf])
    assert architecture.name in str(error.value)


def test_a_job_leaves_out_what_is_refused(checkpoint, tmp_path):
    save_nerf(Nerf.random("MLP"), tmp_path / "good.safetensors")
    save_nerf(Nerf.random("MLP-32H"), tmp_path / "narrow.safetensors")
    paths = [tmp_path / f"{name}.safetensors" for name in ("narrow", "good")]
    job = EmbeddingJob(paths, load_encoder(checkpoint), out=tmp_path / "out.safetensors")
    job.run()
    result = job.finish()
    assert len(result.values) == 1
    assert "narrow.safetensors: is a NeRF of the architecture MLP-32H; nf2vec reads" in result.problems[0]


def test_what_is_no_nf2vec_encoder_says_so(tmp_path):
    state = released_state()
    del state["layers.3.weight"]
    torch.save({"encoder": state}, tmp_path / "broken.pt")
    with pytest.raises(ValueError, match=r"broken\.pt: holds no nf2vec encoder; .* expected layers\.0\.weight"):
        load_encoder(tmp_path / "broken.pt")
    state = released_state() | {"layers.1.running_var": torch.ones(7)}
    torch.save({"encoder": state}, tmp_path / "shapes.pt")
    with pytest.raises(ValueError, match=r"'layers\.1\.running_var' has shape \[7\] instead of \[512\]"):
        load_encoder(tmp_path / "shapes.pt")
    with pytest.raises(ValueError, match="expected 'nf2vec'"):
        Nf2vecConfig.from_dict({"model_type": "gmn_encoder"})
    with pytest.raises(ValueError, match="no field 'width'"):
        Nf2vecConfig.from_dict({"width": 3})
    with pytest.raises(ValueError, match="hidden_dims must be made of positive integers, got 0"):
        Nf2vecConfig(hidden_dims=(8, 0))
    with pytest.raises(ValueError, match="at least 16, the rows of a NeRF's output, got 8"):
        Nf2vecConfig(nerf_hidden_dim=8)
