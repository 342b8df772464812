"""A tiny model, as of the tests of llana_gmn, and embedding files of three families."""

import pytest
import torch

from gmn_encoder.embedding_io import EmbeddedFiles, write_embeddings
from llana_eval.class_table import CLASS_IDS
from tests.llana_gmn.conftest import nerfs, tiny  # noqa: F401 (fixtures)

DIRECTORIES = ("mlp", "triplane", "hash")


@pytest.fixture(scope="session")
def embedding_files(tmp_path_factory):
    """``{split: {family directory: file}}``: 4 classes, 40 objects a split, families apart from each other."""
    folder, generator = tmp_path_factory.mktemp("embeddings"), torch.Generator().manual_seed(0)
    width = 24
    files = {}
    for split in ("train", "val", "test"):
        labels = torch.arange(40) % 4
        objects = 4 * torch.eye(4, width)[labels] + torch.randn(40, width, generator=generator)
        files[split] = {}
        for number, family in enumerate(DIRECTORIES):
            noise = 0.5 + 0.3 * number
            values = objects + 2 * torch.eye(width)[10 + number] + noise * torch.randn(40, width, generator=generator)
            paths = tuple(f"data/{family}/{CLASS_IDS[label]}/{split}-{i}" for i, label in enumerate(labels.tolist()))
            files[split][family] = folder / f"{split}-{family}.safetensors"
            made = EmbeddedFiles(paths, torch.arange(40), values, ())
            write_embeddings(made, files[split][family], encoder_fingerprint="none")
    return files
