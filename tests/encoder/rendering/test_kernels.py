"""The Triton kernels against plain torch: in the interpreter on a CPU, compiled on a GPU."""

import os
import subprocess
import sys

import pytest
import torch

from gmn_encoder.rendering.cameras import Rays
from gmn_encoder.rendering.compositing import composite, composite_reference
from gmn_encoder.rendering.marching import STEP, box_intersection, march_rays, march_reference
from gmn_encoder.rendering.occupancy import OccupancyGrid
from gmn_encoder.rendering.render import render_rays
from gmn_encoder.rendering.samples import Samples

from .conftest import ball_field, join, some_grid, some_rays

pytest.importorskip("triton")


def assert_same_march(ours, expected):
    assert torch.equal(ours.counts, expected.counts)
    assert torch.equal(ours.ray_index, expected.ray_index)
    assert torch.equal(ours.t_starts, expected.t_starts)
    assert torch.equal(ours.t_ends, expected.t_ends)


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take CUDA tensors only")
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered:RuntimeWarning")  # axis-parallel rays
def test_marching_kernel_in_the_interpreter():
    from gmn_encoder.rendering.marching_kernel import march_kernel

    step = 0.06  # long steps: the interpreter takes its time
    parts = [some_rays(20, seed) for seed in range(3)]
    axis = Rays(torch.tensor([[0.0, 0.1, 1.5]] * 2), torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]))
    rays = join(*parts, axis)
    grid = OccupancyGrid.stack(
        [some_grid("ball", 12), some_grid("noise", 12), some_grid("dust", 12), some_grid("ball", 12)]
    )
    t_near, t_far = box_intersection(rays)
    ours, expected = (march(rays, grid, t_near, t_far, step) for march in (march_kernel, march_reference))
    assert_same_march(ours, expected)
    assert len(ours) > 50 and int(ours.counts[-1]) == 0

    single = rays[:7].to(torch.float32)
    single = Rays(single.origins, single.directions)
    near, far = t_near[:7], t_far[:7]
    full = OccupancyGrid.full()
    assert_same_march(march_kernel(single, full, near, far, step), march_reference(single, full, near, far, step))
    none = Rays(torch.zeros(0, 3), torch.zeros(0, 3))
    assert len(march_kernel(none, full, near[:0], far[:0], step)) == 0


def composite_both(kernel, device):
    """Values and gradients of the kernel and of plain torch, on random samples, some of them opaque."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([0, 1, 200, 64, 0, 65, 3])
    lengths = 0.001 + 0.01 * torch.rand(int(counts.sum()), generator=generator)
    t_starts = 1 + lengths.cumsum(0)
    samples = Samples(torch.arange(7).repeat_interleave(counts), t_starts, t_starts + lengths, counts)
    samples = Samples(*(getattr(samples, name).to(device) for name in ("ray_index", "t_starts", "t_ends", "counts")))
    density = 40 * torch.rand(len(samples), generator=generator)
    density[250] = 1e9
    density[251] = 0
    density, rgb = density.to(device), torch.rand(len(samples), 3, generator=generator).to(device)
    weights = [torch.randn(shape, generator=generator).to(device) for shape in ((7, 3), (7,), (7,))]
    results = []
    for run in (kernel, composite_reference):
        leaves = (rgb.clone().requires_grad_(), density.clone().requires_grad_())
        rendering = run(*leaves, samples)
        outputs = (rendering.colour, rendering.opacity, rendering.depth)
        results.append((*outputs, *torch.autograd.grad(outputs, leaves, weights)))
    return zip(*results, strict=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take CUDA tensors only")
def test_compositing_kernels_in_the_interpreter():
    from gmn_encoder.rendering.compositing import Rendering
    from gmn_encoder.rendering.compositing_kernel import composite_kernel

    def kernel(rgb, density, samples):
        return Rendering(*composite_kernel(rgb, density, samples.t_starts, samples.t_ends, samples.offsets))

    for ours, expected in composite_both(kernel, "cpu"):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=2e-6)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gmn_encoder.rendering import compositing_kernel, marching_kernel

INTEGERS = {"offsets": "*i64", "counts": "*i64", "ray_index": "*i64", "nerf_index": "*i64", "clearance": "*u8", "rays": "i32"}
SCALARS = {"step": "fp32", "low": "fp32", "extent": "fp32"}

def compile(kernel, **constants):
    types = {name: INTEGERS.get(name, SCALARS.get(name, "*fp32")) for name in kernel.arg_names}
    types |= dict.fromkeys(constants, "constexpr")
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature=types, constexprs=values)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]

march = compile(marching_kernel._march_kernel, G=96, HAS_NERFS=True, WRITE=True, RAYS=128)
assert "div.rn" in march and "div.full" not in march and "fma" not in march
for kernel in (compositing_kernel._forward_kernel, compositing_kernel._backward_kernel):
    assert "shfl" in compile(kernel, SAMPLES=64, OPAQUE=104.0)
"""


def test_kernels_compile_for_a_gpu_with_rounded_arithmetic(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.gpu
def test_kernels_on_a_gpu():
    for kind in ("ball", "shell", "noise"):
        rays, grid = some_rays(2000).to("cuda"), some_grid(kind).to("cuda")
        t_near, t_far = box_intersection(rays)
        ours, expected = march_rays(rays, grid), march_reference(rays, grid, t_near, t_far, STEP)
        different = (ours.counts != expected.counts).float().mean()
        assert float(different) < 0.01 and float((ours.counts - expected.counts).abs().max()) <= 2
    for ours, expected in composite_both(composite, "cuda"):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=2e-6)
    rays, grid = some_rays(500), some_grid("ball").dilated()
    on_gpu = render_rays(ball_field, rays.to("cuda"), grid.to("cuda"))
    torch.testing.assert_close(on_gpu.colour.cpu(), render_rays(ball_field, rays, grid).colour, rtol=0, atol=5e-3)
