"""Shared fixtures. Without a GPU, Triton kernels run in its interpreter, which must be chosen before Triton is imported.

Some virtual machines show AMX and forbid it: torch's bfloat16 products then die of an illegal instruction. Tests do without AMX.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

# Read when torch is imported, also by the processes that tests start.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors of tests are small: more threads take longer
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait actively, more than cores, take 8 times as long

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

DATA = Path(__file__).parent / "data"
GOLDEN = DATA / "golden"
GOLDEN_NERF = {
    name: GOLDEN / "nerf" / "shapenet" / family / "02691156" / "eee65f53e9421ce50211670eae679f02"
    for name, family in {"MLP": "mlp", "TRI": "triplane", "HASH": "hash"}.items()
}


def pytest_collection_modifyitems(items):
    reasons = {}
    if not torch.cuda.is_available():
        reasons["gpu"] = "needs a CUDA device"
    if "MISALIGNED" in os.environ:
        reasons["same_bits"] = "tensors stand at other places in memory every time"
    for item in items:
        for mark in reasons.keys() & {each.name for each in item.iter_markers()}:
            item.add_marker(pytest.mark.skip(reason=reasons[mark]))


@pytest.fixture(scope="session")
def golden_manifest() -> dict:
    return json.loads((GOLDEN / "manifest.json").read_text())


@pytest.fixture(scope="session")
def golden_encoder():
    """The encoder of the golden data in float32; do not change it."""
    from gmn_encoder import GmnEncoder

    return GmnEncoder.from_pretrained(GOLDEN / "ckpts" / "golden" / "best.pt")


@pytest.fixture(scope="session")
def golden_encoder64():
    """The encoder of the golden data in float64; do not change it."""
    from gmn_encoder import GmnEncoder

    return GmnEncoder.from_pretrained(GOLDEN / "ckpts" / "golden" / "best.pt").double()


@pytest.fixture(scope="session")
def small_encoder():
    """A quick random encoder with biases and norms away from their initial values; do not change it."""
    from gmn_encoder import GmnConfig, GmnEncoder

    torch.manual_seed(0)
    encoder = GmnEncoder(GmnConfig(hidden_dim=16, embedding_dim=24, num_layers=3)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.fixture
def own_families():
    """Families that a test registers are forgotten after it."""
    from gmn_encoder.nerfs import architectures

    names = ("FAMILIES", "FAMILY_NAMES", "PAPER_ARCHITECTURES", "NANO_ARCHITECTURES", "NAMED_ARCHITECTURES")
    registries: list[dict] = [getattr(architectures, name) for name in names]
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


@pytest.fixture
def in_this_process(monkeypatch):
    """Benchmarks measure without starting processes, which takes seconds each."""
    monkeypatch.setattr("gmn_encoder.benchmarking.in_fresh_process", lambda function, *arguments: function(*arguments))


@pytest.fixture
def moments():
    """The encoder kind of `tests.encoder.encoders.moments`, registered for the time of a test."""
    from gmn_encoder.encoders.base import _KINDS, register_encoder
    from tests.encoder.encoders.moments import MomentsEncoder

    register_encoder("moments", MomentsEncoder)
    yield MomentsEncoder
    del _KINDS["moments"]
