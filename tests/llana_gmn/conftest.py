"""A tiny model with random weights, and one NeRF of each family. Tests leave them as they are."""

from __future__ import annotations

import pytest
import torch

from gmn_encoder.nerfs.families import HashArchitecture, MlpArchitecture, TriplaneArchitecture
from gmn_encoder.nerfs.record import Nerf
from tests.llana_gmn.language_data import embedding_files, language_data

__all__ = ["embedding_files", "language_data"]


@pytest.fixture(scope="session")
def tiny():
    """(model, processor). Embeddings are spread out, so that each NeRF changes what the backbone says."""
    from llana_gmn.assembly.tiny import tiny_model

    model, processor = tiny_model()
    with torch.no_grad():
        for parameter in model.projector.parameters():
            parameter.mul_(6)
        for weights in model.nerf_encoder.gnn_w_readout.readout.buffers():
            weights.mul_(20)
    return model, processor


@pytest.fixture(scope="session")
def model(tiny):
    return tiny[0]


@pytest.fixture(scope="session")
def processor(tiny):
    return tiny[1]


@pytest.fixture(scope="session")
def nerfs():
    """Small NeRFs of the three families."""
    architectures = [
        MlpArchitecture(hidden_layers=1, hidden_dim=16, frequencies=4),
        TriplaneArchitecture(hidden_layers=2, hidden_dim=16, frequencies=4, resolution=4, channels=8),
        HashArchitecture(hidden_layers=1, hidden_dim=16, levels=2, log2_table_size=6),
    ]
    return [Nerf.random(architecture, seed=seed) for seed, architecture in enumerate(architectures)]


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    """The tiny model and its processor, saved."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    for part in tiny:
        part.save_pretrained(path)
    return path
