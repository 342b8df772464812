import pytest
import torch

from gmn_encoder.fitting.field import TrainedBatch
from gmn_encoder.nerfs.architectures import PAPER_ARCHITECTURES
from gmn_encoder.nerfs.families import HashArchitecture, TriplaneArchitecture
from gmn_encoder.nerfs.interpolation import interpolate
from gmn_encoder.nerfs.network import MLP_KEY

ODD = {
    "triplane with 5 channels": TriplaneArchitecture(channels=5, resolution=9),
    "hash of 3 features, odd table": HashArchitecture(features_per_entry=3, base_resolution=5, levels=2),
    "with biases": HashArchitecture(bias=True),
}


@pytest.mark.parametrize("frequencies", [6, None])
@pytest.mark.parametrize("name", [*PAPER_ARCHITECTURES, *ODD])
def test_training_field_is_the_field(name, frequencies):
    architecture = {**PAPER_ARCHITECTURES, **ODD}[name]
    starts = [architecture.initial_tensors(seed=seed, frequencies=frequencies) for seed in (1, 2)]
    # Tables larger than at the start, so that they count.
    tensors = {
        key: torch.stack([start[key] * (1 if key == MLP_KEY else 300) for start in starts]).requires_grad_()
        for key in starts[0]
    }
    xyz = torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(0)) * 1.39 - 0.695
    weights = torch.rand(2, 200, 4, generator=torch.Generator().manual_seed(1))
    results = []
    for query in (
        TrainedBatch(architecture, tensors, frequencies).query,
        lambda p: architecture.query(tensors, p),
    ):
        rgb, density = query(xyz)
        total = (torch.cat([rgb, density], dim=-1) * weights).sum()
        results.append((rgb, density, torch.autograd.grad(total, list(tensors.values()))))
    (rgb, density, gradients), (true_rgb, true_density, true_gradients) = results
    torch.testing.assert_close(rgb, true_rgb, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(density, true_density, rtol=1e-4, atol=1e-5)
    for key, found, expected in zip(tensors, gradients, true_gradients, strict=True):
        if key == MLP_KEY:  # columns that are not trained get no gradient
            assert frequencies is None or (found == 0).sum() >= (tensors[key] == 0).sum()
            expected = torch.where(tensors[key] == 0, found, expected)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_density_ends_at_the_box():
    architecture = PAPER_ARCHITECTURES["HASH"]
    tensors = {key: value[None] for key, value in architecture.initial_tensors(seed=0).items()}
    _, density = TrainedBatch(architecture, tensors).query(torch.tensor([[[0.71, 0, 0], [0, 0, -0.7], [0.69, 0, 0]]]))
    assert density[0, :, 0].tolist()[:2] == [0.0, 0.0]
    assert density[0, 2, 0] > 0


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
def test_interpolate_is_a_weighted_sum(channels):
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(7, channels, generator=generator, requires_grad=True)
    index = torch.randint(7, (4, 20), generator=generator, dtype=torch.int32)
    weights = torch.rand(4, 20, generator=generator)
    expected = (table[index.long()] * weights[..., None]).sum(dim=0)
    found = interpolate(table, index, weights)
    torch.testing.assert_close(found, expected)
    slope = torch.rand(20, channels, generator=generator)
    torch.testing.assert_close(
        torch.autograd.grad(found, table, slope)[0], torch.autograd.grad(expected, table, slope)[0]
    )


def test_used_frequencies_are_read_from_the_weights():
    for name, frequencies, expected in (("MLP", 6, 6), ("TRI", None, 48), ("HASH", 6, None)):
        architecture = PAPER_ARCHITECTURES[name]
        assert architecture.used_frequencies(architecture.initial_tensors(seed=0, frequencies=frequencies)) == expected
