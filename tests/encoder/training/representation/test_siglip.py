"""The contrastive loss against published numbers, finite differences, and its other forms."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder import SiglipLoss, siglip_loss
from tests.conftest import GOLDEN

CASES = [f"case{i}.{kind}.{dtype}" for i in range(4) for kind in ("init", "moved") for dtype in ("f32", "f64")]


@pytest.mark.parametrize("case", CASES)
def test_golden(case, golden_manifest):
    about = golden_manifest["siglip"][case]
    inputs, name = load_file(GOLDEN / "siglip_inputs.safetensors"), case.split(".")[0]
    dtype = torch.float64 if case.endswith("f64") else torch.float32
    leaves = [inputs[f"{name}.emb{side}"].to(dtype) for side in (1, 2)]
    leaves += [torch.tensor(about[f"{number}_param"], dtype=dtype) for number in ("scale", "shift")]
    for leaf in leaves:
        leaf.requires_grad_()
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    for chunk_size in (None, 3):
        loss = siglip_loss(*leaves, chunk_size=chunk_size)
        grads = torch.autograd.grad(loss, leaves)
        assert loss.item() == pytest.approx(about["loss"], rel=tolerance)
        assert grads[2].item() == pytest.approx(about["grad_scale"], rel=tolerance, abs=1e-6)
        assert grads[3].item() == pytest.approx(about["grad_shift"], rel=tolerance, abs=1e-6)
        for side in (0, 1):
            wanted = about[f"grad_emb{side + 1}_norm"]
            assert grads[side].norm().item() == pytest.approx(wanted, rel=10 * tolerance, abs=1e-6)


def test_by_hand():
    """Two orthogonal pairs, exp(scale) = 1, shift 0: logits are the identity matrix.

    -(2 log sigmoid(1) + 2 log sigmoid(-0)) / 2 = log(1 + e^-1) + log 2 = 0.313262 + 0.693147
    """
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    assert siglip_loss(rows, rows, 0.0, 0.0).item() == pytest.approx(0.313262 + 0.693147, abs=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_gradients_against_finite_differences(chunk_size):
    torch.manual_seed(0)
    inputs = [torch.randn(5, 4, dtype=torch.float64) for _ in range(2)]
    inputs += [torch.tensor(value, dtype=torch.float64) for value in (0.7, -1.2)]
    for each in inputs:
        each.requires_grad_()
    assert torch.autograd.gradcheck(lambda *leaves: siglip_loss(*leaves, chunk_size=chunk_size), inputs)


def test_embedding_of_zeros_gives_no_nan():
    a = torch.zeros(2, 3, requires_grad=True)
    siglip_loss(a, torch.ones(2, 3), 1.0, 0.0).backward()
    assert bool(torch.isfinite(a.grad).all())


def test_learnt_numbers_have_the_released_names():
    state = SiglipLoss().state_dict()
    assert {key: round(value.item(), 6) for key, value in state.items()} == {"scale": 2.302585, "shift": -10.0}


ACROSS = """
import sys, torch, torch.distributed as dist
from gmn_encoder.training.representation.siglip import siglip_loss, siglip_loss_across
dist.init_process_group("gloo")
rank, size, n = dist.get_rank(), dist.get_world_size(), 4
torch.manual_seed(0)
a, b = torch.randn(2, size * n, 5, dtype=torch.float64).unbind()
scale, shift = (torch.tensor(v, dtype=torch.float64) for v in (0.9, -2.0))
whole = [t.clone().requires_grad_() for t in (a, b, scale, shift)]
expected = siglip_loss(*whole); expected.backward()
mine = slice(rank * n, rank * n + n)
own = [t.clone().requires_grad_() for t in (a[mine], b[mine], scale, shift)]
share = siglip_loss_across(*own, chunk_size=3); share.backward()
mean = share.detach().clone(); dist.all_reduce(mean); mean /= size
torch.testing.assert_close(mean, expected.detach())
for got, wanted in zip(own[:2], whole[:2]):
    torch.testing.assert_close(got.grad, size * wanted.grad[mine])
for got, wanted in zip(own[2:], whole[2:]):
    dist.all_reduce(got.grad)
    torch.testing.assert_close(got.grad / size, wanted.grad)
dist.destroy_process_group()
"""


def test_processes_agree_with_one(tmp_path):
    """Three processes, four pairs each: mean of losses and gradients are those of twelve pairs in one process."""
    script = tmp_path / "across.py"
    script.write_text(ACROSS)
    folders = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{folders / 'encoder'}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected \(N, D\) twice"):
        siglip_loss(torch.zeros(2, 3), torch.zeros(3, 3), 1.0, 0.0)
    with pytest.raises(ValueError, match="N at least 1"):
        siglip_loss(torch.zeros(0, 3), torch.zeros(0, 3), 1.0, 0.0)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        siglip_loss(torch.zeros(2, 3), torch.zeros(2, 3), 1.0, 0.0, chunk_size=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        SiglipLoss(temperature=0)
