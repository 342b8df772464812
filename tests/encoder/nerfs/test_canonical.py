"""Canonical weights: the field stays, what does not change the field goes."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, NerfBatch, TriplaneArchitecture
from gmn_encoder.nerfs.architectures import NerfArchitecture, parse_architecture
from gmn_encoder.nerfs.canonical import canonical_features, canonical_nerfs
from gmn_encoder.nerfs.network import BIAS_KEY, MLP_KEY
from gmn_encoder.nerfs.symmetries import SYMMETRIES
from tests.encoder.nerfs.symmetries import ARCHITECTURES, CASES

PAPER = [parse_architecture(name) for name in ("MLP", "TRI", "TRI-8C", "HASH", "HASH-3N")]


def vivid(architecture, seed=0, dtype=torch.float64):
    """A random NeRF whose colours and densities differ from point to point."""
    nerf = Nerf.random(architecture, seed=seed, dtype=dtype)
    return Nerf(architecture, {key: tensor * 3 for key, tensor in nerf.tensors.items()})


def inside(nerfs, dtype, points=300):
    generator = torch.Generator().manual_seed(4)
    return 0.699 * (2 * torch.rand(nerfs, points, 3, generator=generator, dtype=torch.float64).to(dtype) - 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *PAPER], ids=lambda a: a.name)
def test_the_field_stays(architecture, dtype, tolerance):
    nerfs = NerfBatch.stack([vivid(architecture, seed, dtype) for seed in range(3)])
    canonical, xyz = canonical_nerfs(nerfs), inside(3, dtype)
    assert all(tensor.dtype == dtype for tensor in canonical.tensors.values())
    assert {key: tuple(t.shape[1:]) for key, t in canonical.tensors.items()} == canonical.architecture.tensor_shapes
    (rgb, density), (expected, expected_density) = canonical.query(xyz), nerfs.query(xyz)
    assert expected.std() > 0.05  # there is something to see
    torch.testing.assert_close(rgb, expected, rtol=0, atol=tolerance)
    # An exponential of logits up to 10 and more, whose rounding it takes over as it is.
    torch.testing.assert_close(density, expected_density, rtol=5 * tolerance, atol=0)


@pytest.mark.parametrize(("architecture", "symmetry"), CASES, ids=lambda value: getattr(value, "name", value))
def test_equal_fields_have_equal_canonical_weights(architecture, symmetry):
    nerf = vivid(architecture)
    other = SYMMETRIES[symmetry](nerf, torch.Generator().manual_seed(7))
    xyz = inside(1, torch.float64)[0]
    torch.testing.assert_close(other.query(xyz), nerf.query(xyz), rtol=1e-9, atol=1e-12)
    assert any((other.tensors[key] - nerf.tensors[key]).abs().max() > 0.01 for key in nerf.tensors)
    canonical = [canonical_nerfs(NerfBatch.stack([each])) for each in (nerf, other)]
    for key, expected in canonical[0].tensors.items():
        got = canonical[1].tensors[key]
        if symmetry == "permuted" and key in (MLP_KEY, BIAS_KEY):
            # Neurons may stand anywhere: the numbers are the same.
            got, expected = got.sort().values, expected.sort().values
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_canonical_weights_are_their_own_canonical_form(architecture):
    once = canonical_nerfs(NerfBatch.stack([vivid(architecture, seed) for seed in range(2)]))
    twice = canonical_nerfs(once)
    assert twice.architecture == once.architecture
    torch.testing.assert_close(dict(twice.tensors), dict(once.tensors), rtol=1e-9, atol=1e-9)


def test_what_canonical_weights_are():
    """Unit rows, white features, one bias in place of padding, nothing where nothing is read."""
    form = canonical_nerfs(NerfBatch.stack([vivid(HashArchitecture(levels=3, log2_table_size=6, hidden_dim=16))]))
    matrices, biases = form.architecture.layers(form.tensors)
    assert (matrices[0][..., 6:] == 0).all()
    for matrix, bias in list(zip(matrices, biases, strict=True))[:-1]:
        length = (matrix.square().sum(dim=-1) + bias.square()).sqrt()
        torch.testing.assert_close(length, torch.ones_like(length))
    assert (biases[0] != 0).all()
    assert all((bias == 0).all() for bias in biases[1:])
    assert (matrices[-1][:, 4:] == 0).all()
    tables = form.tensors["encoding.params"].view(3, 64, 2)
    torch.testing.assert_close(tables.mT @ tables / 64, torch.eye(2, dtype=torch.float64).expand(3, 2, 2))
    signed = canonical_nerfs(NerfBatch.stack([vivid(TriplaneArchitecture(hidden_dim=16, bias=True))]))
    matrices, biases = signed.architecture.layers(signed.tensors)
    assert all((matrix.pow(3).sum(dim=-1) > 0).all() for matrix in matrices[:-1])
    assert all((bias.abs() <= torch.pi / 2).all() for bias in biases[:-1])


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_gradients(architecture):
    """Those of a function of the canonical weights are its slopes along a random direction."""
    nerfs = NerfBatch.stack([vivid(architecture, seed) for seed in range(2)])
    generator = torch.Generator().manual_seed(1)
    steps = {key: torch.randn(t.shape, generator=generator).to(t) for key, t in nerfs.tensors.items()}
    weights = {
        key: torch.randn(t.shape, generator=generator).to(t) for key, t in canonical_nerfs(nerfs).tensors.items()
    }

    def value(tensors):
        form = canonical_nerfs(NerfBatch(architecture, tensors)).tensors
        return sum((form[key] * weights[key]).sum() for key in form)

    tensors = {key: tensor.requires_grad_() for key, tensor in nerfs.tensors.items()}
    gradients = torch.autograd.grad(value(tensors), list(tensors.values()))
    slope = sum((gradient * step).sum() for gradient, step in zip(gradients, steps.values(), strict=True))
    with torch.no_grad():
        ahead, behind = (value({k: t + h * steps[k] for k, t in tensors.items()}) for h in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-5)


def test_weights_that_read_nothing():
    """Dead neurons, constant tables and features that depend on each other: finite weights of the same field."""
    architecture = HashArchitecture(hidden_dim=16, levels=3, log2_table_size=6)
    nerf = vivid(architecture)
    tables = nerf.tensors["encoding.params"].clone().view(3, 64, 2)
    tables[0] = 0.5
    tables[1, :, 1] = 2 * tables[1, :, 0]
    matrix = nerf.tensors[MLP_KEY].clone()
    matrix[:32] = 0  # the rows of two neurons
    degenerate = NerfBatch.stack([Nerf(architecture, {"encoding.params": tables.flatten(), MLP_KEY: matrix}), nerf])
    tensors = {key: tensor.requires_grad_() for key, tensor in degenerate.tensors.items()}
    form, xyz = canonical_nerfs(NerfBatch(architecture, tensors)), inside(2, torch.float64)
    torch.testing.assert_close(form.query(xyz), degenerate.query(xyz), rtol=1e-10, atol=1e-12)
    second = form.architecture.layers(form.tensors)[0][1]
    assert (second[0, :, :2] == 0).all()
    gradients = torch.autograd.grad(sum(t.square().sum() for t in form.tensors.values()), list(tensors.values()))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_one_feature():
    """The map of one feature is a number: unit variance, and a sign."""
    table = torch.randn(2, 50, 1, dtype=torch.float64)
    columns = torch.randn(2, 4, 1, dtype=torch.float64)
    one, other = canonical_features(table, columns), canonical_features(-3 * table + 1, columns / -3)
    torch.testing.assert_close(other[:2], one[:2])
    torch.testing.assert_close(one[0].var(dim=1, correction=0), torch.ones(2, 1, dtype=torch.float64))


@dataclass(frozen=True, kw_only=True)
class SquaredArchitecture(HashArchitecture):
    """Features are squared: maps of them are no symmetries any more."""

    family: ClassVar[str] = "squared"

    def point_features(self, tensors, xyz):
        return super().point_features(tensors, xyz).square()


@dataclass(frozen=True, kw_only=True)
class InvertedArchitecture(MlpArchitecture):
    """Reads an output that others do not use."""

    family: ClassVar[str] = "inverted"

    def query(self, tensors, xyz, directions=None):
        rgb, density = super().query(tensors, xyz, directions)
        return 1 - rgb, density + tensors[MLP_KEY][:, None, -1:].abs()


@dataclass(frozen=True, kw_only=True)
class BallArchitecture(NerfArchitecture):
    family: ClassVar[str] = "ball"

    @property
    def tensor_shapes(self):
        return {"radius": (1,)}

    def query(self, tensors, xyz, directions=None):
        radius = tensors["radius"][:, None]
        return torch.zeros_like(xyz), (radius - xyz.norm(dim=-1, keepdim=True)).relu()


@pytest.mark.parametrize(
    "architecture",
    [SquaredArchitecture(log2_table_size=6), InvertedArchitecture(frequencies=3), BallArchitecture()],
    ids=lambda a: a.family,
)
def test_fields_of_other_families_stay(architecture):
    """Those that change what a family inherits from are not taken to have its symmetries."""
    nerfs = NerfBatch.stack([vivid(architecture, seed) for seed in range(2)])
    xyz = inside(2, torch.float64)
    torch.testing.assert_close(canonical_nerfs(nerfs).query(xyz), nerfs.query(xyz), rtol=1e-10, atol=1e-12)
