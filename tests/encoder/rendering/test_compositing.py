import math

import pytest
import torch

from gmn_encoder.rendering.compositing import (
    accumulate_along_rays,
    composite,
    render_weights,
    sum_before,
    visible_samples,
)
from gmn_encoder.rendering.marching import march_rays
from gmn_encoder.rendering.samples import Samples

from .conftest import some_grid, some_rays


def packed(counts, dtype=torch.float64, seed=0):
    """Samples of given counts with random lengths and gaps."""
    counts = torch.tensor(counts)
    generator = torch.Generator().manual_seed(seed)
    lengths = 0.02 + 0.1 * torch.rand(int(counts.sum()), 2, dtype=torch.float64, generator=generator)
    t_starts = lengths.sum(dim=1).cumsum(0)
    ray_index = torch.arange(len(counts)).repeat_interleave(counts)
    return Samples(ray_index, t_starts.to(dtype), (t_starts + lengths[:, 0]).to(dtype), counts)


def slow_composite(rgb, density, samples, background):
    """docs/released_format.md#compositing for each ray in turn: colour, opacity and depth side by side ``(R, 5)``,
    differentiable."""
    rows = []
    for ray in range(samples.num_rays):
        light, seen = torch.ones((), dtype=rgb.dtype), torch.zeros(5, dtype=rgb.dtype)
        for sample in range(int(samples.offsets[ray]), int(samples.offsets[ray + 1])):
            start, end = samples.t_starts[sample], samples.t_ends[sample]
            alpha = 1 - torch.exp(-density[sample] * (end - start))
            values = torch.cat([rgb[sample], torch.stack([torch.ones_like(start), (start + end) / 2])])
            seen = seen + light * alpha * values
            light = light * (1 - alpha)
        rows.append(torch.cat([seen[:3] + background * (1 - seen[3]), seen[3:]]))
    return torch.stack(rows)


def test_values_and_gradients_agree_with_a_loop_in_float64():
    samples = packed([0, 3, 1, 0, 7, 0])
    generator = torch.Generator().manual_seed(1)
    rgb = torch.rand(11, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    density = (20 * torch.rand(11, dtype=torch.float64, generator=generator)).requires_grad_()
    background = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64, requires_grad=True)
    rendering = composite(rgb, density, samples, background=background)
    ours = torch.cat([rendering.colour, rendering.opacity[:, None], rendering.depth[:, None]], dim=1)
    expected = slow_composite(rgb, density, samples, background)
    torch.testing.assert_close(ours, expected)
    weights = torch.rand(6, 5, dtype=torch.float64, generator=generator)
    inputs = (rgb, density, background)
    gradients = torch.autograd.grad((ours * weights).sum(), inputs)
    for gradient, slow in zip(gradients, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(gradient, slow)


def test_two_samples_worked_out_by_hand():
    # Optical depths ln 2 and ln 4: alphas 1/2 and 3/4, transmittances 1 and 1/2, weights 1/2 and 3/8.
    samples = Samples(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), torch.tensor([2]))
    density = torch.tensor([[math.log(2)], [math.log(2)]])
    weights, transmittance = render_weights(density, samples)
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.375]))
    torch.testing.assert_close(transmittance, torch.tensor([1.0, 0.5]))
    rendering = composite(torch.eye(3)[:2], density, samples, background=torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(rendering.colour, torch.tensor([[0.5, 0.375, 0.125]]))
    torch.testing.assert_close(rendering.depth, torch.tensor([0.5 * 1.5 + 0.375 * 3.0]))


def test_gradients_numerically():
    samples = packed([2, 0, 4])
    density = (10 * torch.rand(6, dtype=torch.float64)).requires_grad_()
    rgb = torch.rand(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: render_weights(d, samples), (density,))
    assert torch.autograd.gradcheck(lambda w, v: accumulate_along_rays(w, v, samples), (density, rgb))


def test_float32_stays_exact_behind_opaque_rays():
    # A running sum in float32 over all samples would be off by several units after the first rays.
    samples = march_rays(some_rays(400), some_grid("ball"))
    density = 1e5 * torch.rand(len(samples), generator=torch.Generator().manual_seed(0))
    last = int((samples.counts > 0).nonzero()[-1])
    keep = samples.ray_index == last
    density[keep] = torch.linspace(0.1, 3.0, int(keep.sum()))
    weights, transmittance = render_weights(density, samples)
    alone = samples.select(keep)
    exact = Samples(alone.ray_index, alone.t_starts.double(), alone.t_ends.double(), alone.counts)
    lengths = (alone.t_ends - alone.t_starts).double()
    expected = torch.exp(-(density[keep].double() * lengths).cumsum(0) + density[keep].double() * lengths)
    torch.testing.assert_close(transmittance[keep].double(), expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(
        weights[keep].double(), render_weights(density[keep].double(), exact)[0], rtol=3e-4, atol=0
    )


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_broken_sample_stays_in_its_ray(poison):
    samples = packed([3, 2, 4], torch.float32)
    density = torch.full((9,), 5.0)
    clean = composite(torch.ones(9, 3), density, samples)
    density[3] = poison
    density.requires_grad_()
    rendering = composite(torch.ones(9, 3), density, samples)
    torch.testing.assert_close(rendering.colour[[0, 2]], clean.colour[[0, 2]])
    rendering.colour[[0, 2]].sum().backward()
    other = samples.ray_index != 1
    assert bool(torch.isfinite(density.grad[other]).all()) and bool((density.grad[other] > 0).all())
    if poison == math.inf:
        torch.testing.assert_close(rendering.opacity[1], torch.tensor(1.0))
        assert bool(torch.isfinite(density.grad).all())


def test_sums_before_samples():
    samples = packed([2, 0, 3])
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert sum_before(values, samples).tolist() == [0, 1, 0, 4, 12]


def test_visibility_ends_where_light_does():
    samples = packed([6])
    lengths = samples.t_ends - samples.t_starts
    # Each sample lets a tenth through: transmittances 1, 0.1, ... 1e-5; 1e-4 is kept but for rounding.
    density = (math.log(10) - 1e-9) / lengths
    assert visible_samples(density, samples).tolist() == [True] * 5 + [False]
    assert visible_samples(density, samples, threshold=0.05).tolist() == [True, True] + [False] * 4


def test_no_samples_show_the_background():
    samples = packed([0, 0])
    rendering = composite(torch.zeros(0, 3), torch.zeros(0, 1), samples, background=torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(rendering.colour, torch.tensor([[0.1, 0.2, 0.3]] * 2))
    assert rendering.opacity.tolist() == [0, 0] and rendering.depth.tolist() == [0, 0]


def test_wrong_shapes_are_refused():
    samples = packed([2])
    with pytest.raises(ValueError, match=r"rgb has shape \[2, 4\]"):
        composite(torch.zeros(2, 4), torch.zeros(2), samples)
    with pytest.raises(ValueError, match=r"density has shape \[3\]"):
        render_weights(torch.zeros(3), samples)
    with pytest.raises(ValueError, match=r"dtype torch\.int64"):
        render_weights(torch.zeros(2, dtype=torch.int64), samples)


def test_half_precision_is_composited_in_float32():
    samples = packed([300], torch.float32)
    density, rgb = torch.rand(300).bfloat16(), torch.rand(300, 3).bfloat16()
    rendering = composite(rgb, density, samples)
    expected = composite(rgb.float(), density.float(), samples)
    assert rendering.colour.dtype == torch.float32 and torch.equal(rendering.colour, expected.colour)
