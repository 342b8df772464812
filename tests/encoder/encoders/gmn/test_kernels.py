"""Fused kernels against plain torch: in Triton's interpreter here, on the device where there is one."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from gmn_encoder.encoders.gmn.kernels import reference

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

CPU_AND_GPU = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random(*shape, device):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float32).to(device)


def edge_inputs(batch, targets, sources, hidden, *, shared, message, device):
    edge = random(batch, targets, sources, hidden, device=device)
    nodes = 1 if shared else batch
    return [
        edge - edge.mean(dim=-1, keepdim=True),
        random(nodes, sources, hidden, device=device),
        random(batch, targets, hidden, device=device),
        random(hidden, hidden, device=device) / hidden**0.5,
        random(hidden, hidden + 1, device=device)[:, 1:].contiguous() / hidden**0.5,
        random(hidden, device=device),
        random(nodes, sources, hidden, device=device).flip(1) if message else None,
        random(hidden, hidden, device=device).T.contiguous() / hidden**0.5 if message else None,
    ]


def leaves(tensors):
    return [tensor if tensor is None else tensor.clone().requires_grad_() for tensor in tensors]


def assert_same(results, expected, tolerance):
    for got, wanted in zip(results, expected, strict=True):
        assert (got is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance * wanted.abs().max().item())


@pytest.mark.parametrize("device", CPU_AND_GPU)
@pytest.mark.parametrize("message", [True, False])
@pytest.mark.parametrize(("shape", "shared"), [((2, 3, 70, 32), False), ((1, 5, 64, 16), True), ((3, 2, 5, 16), True)])
def test_edge_update(shape, shared, message, device):
    from gmn_encoder.encoders.gmn.kernels import fused

    inputs = edge_inputs(*shape, shared=shared, message=message, device=device)
    plain, quick = leaves(inputs), leaves(inputs)
    expected, results = reference.edge_update(*plain, 1e-5), fused.edge_update(*quick, 1e-5)
    assert_same(results, expected, 1e-5)
    for outputs in (expected, results):
        sum(output.square().sum() for output in outputs if output is not None).backward()
    assert_same([t.grad for t in quick if t is not None], [t.grad for t in plain if t is not None], 1e-5)


@pytest.mark.parametrize("device", CPU_AND_GPU)
@pytest.mark.parametrize(("edges", "width"), [(200, 100), (128, 256), (3, 16)])
def test_readout_sum(edges, width, device):
    from gmn_encoder.encoders.gmn.kernels import fused

    inputs = [random(2, edges, 32, device=device), random(32, width, device=device), random(width, device=device)]
    plain, quick = leaves(inputs), leaves(inputs)
    expected, results = reference.readout_sum(*plain, 1e-5), fused.readout_sum(*quick, 1e-5)
    assert_same([results], [expected], 1e-5)
    expected.square().sum().backward(), results.square().sum().backward()
    assert_same([t.grad for t in quick], [t.grad for t in plain], 1e-5)


def test_reference_gradients():
    inputs = [random(2, 9, 8, device="cpu"), random(8, 12, device="cpu"), random(12, device="cpu")]
    assert torch.autograd.gradcheck(
        lambda *t: reference.readout_sum(*t, 1e-5), [t.double().requires_grad_() for t in inputs]
    )
    edges = edge_inputs(2, 2, 3, 8, shared=False, message=True, device="cpu")
    assert torch.autograd.gradcheck(
        lambda *t: reference.edge_update(*t, 1e-5), [t.double().requires_grad_() for t in edges], fast_mode=True
    )


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("name", ["MLP", "TRI", "HASH"])
def test_encoder_on_the_gpu(name, dtype, tolerance, golden_encoder64):
    from gmn_encoder import GmnEncoder, load_nerf
    from tests.conftest import GOLDEN, GOLDEN_NERF

    nerf = load_nerf(GOLDEN_NERF[name])
    expected = golden_encoder64.encode([nerf])
    encoder = GmnEncoder.from_pretrained(GOLDEN / "ckpts" / "golden" / "best.pt").cuda()
    embedding = encoder.encode([nerf] * 3, dtype=dtype).cpu().double()
    assert ((embedding - expected).abs().max() / expected.abs().max()).item() < tolerance


COMPILE = """
import torch
import triton
from triton.compiler import ASTSource
from triton.backends.compiler import GPUTarget
from gmn_encoder.encoders.gmn.kernels import fused

def compile(kernel, integers, constants, pointer):
    kinds = {"eps": "fp32", "partial": "*fp32", **dict.fromkeys(integers, "i32"), **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, pointer) for name in kernel.arg_names}
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(ASTSource(kernel, signature=signature, constexprs=values), target=GPUTarget("cuda", 90, 32))
    assert compiled.metadata.shared <= 227 * 1024, compiled.metadata.shared  # what a block may have on Hopper
    assert len(compiled.asm["cubin"]) > 0


for pointer, dtype in (("*bf16", torch.bfloat16), ("*fp32", torch.float32)):
    precision = fused.precision(dtype)
    compile(
        fused._edge_update_kernel,
        ["sources", "source_batch_stride", "message_batch_stride", "targets"],
        {"H": 128, "M": fused.EDGE_TILE, "HAS_MESSAGE": True, "PRECISION": precision},
        pointer,
    )
    rows, columns = fused.readout_tile(dtype)
    sizes = {"H": 128, "D": 1024, "M": rows, "N": columns}
    compile(fused._readout_kernel, ["edges_per_nerf"], {**sizes, "PRECISION": precision}, pointer)
"""


@pytest.mark.slow
def test_kernels_compile_for_hopper():
    """No GPU is needed to compile: what the interpreter accepts, the compiler might not."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = ":".join(sys.path)
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
