"""A little data set: texts of procedural objects, and random embeddings that tell the objects apart."""

from __future__ import annotations

import json

import pytest
import torch

from gmn_encoder.files import write_safetensors
from gmn_encoder.fitting.output import split_of, write_language
from gmn_encoder.objects import generate_dataset

FAMILIES = ("mlp", "triplane", "hash")


def write_embeddings(path, things, embeddings):
    about = {
        "paths": [thing.object_id for thing in things],
        "class_ids": [thing.class_id for thing in things],
        "nerf_ids": [thing.object_id for thing in things],
        "encoder": "",
    }
    tensors = {"embeddings": embeddings, "indices": torch.arange(len(things))}
    write_safetensors(tensors, path, metadata={"llana_gmn_embeddings": json.dumps(about)})


@pytest.fixture(scope="session")
def language_data(tmp_path_factory):
    """A directory with texts of 20 objects (16 train, 2 val, 2 test), and ``<family>.safetensors`` with embeddings of 32."""
    root = tmp_path_factory.mktemp("language")
    things = list(generate_dataset(20))
    write_language(root, [(split_of(i), thing) for i, thing in enumerate(things)])
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(len(things), 32, generator=generator)
    for family in FAMILIES:
        noise = torch.randn(len(things), 32, generator=generator)
        write_embeddings(root / f"{family}.safetensors", things, shared + 0.3 * noise)
    return root


@pytest.fixture(scope="session")
def embedding_files(language_data):
    return {family: str(language_data / f"{family}.safetensors") for family in FAMILIES}
