"""Fields against the golden data (an independent implementation of docs/released_format.md#radiance-field) and against hand-made
cases."""

import math

import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, NerfBatch, TriplaneArchitecture, load_nerf
from gmn_encoder.nerfs.families.hash import hash_corner_indices
from gmn_encoder.nerfs.families.triplane import triplane_features
from gmn_encoder.nerfs.fields import density_activation, frequency_features
from tests.conftest import GOLDEN, GOLDEN_NERF

FIELDS = load_file(GOLDEN / "fields.safetensors")


@pytest.mark.parametrize(
    ("name", "dtype", "case"),
    [
        ("MLP", torch.float32, "MLP.f32arg"),
        ("MLP", torch.float64, "MLP.exact64"),
        ("TRI", torch.float32, "TRI.f32arg"),
        ("TRI", torch.float64, "TRI.exact64"),
        ("HASH", torch.float32, "HASH"),
        ("HASH", torch.float64, "HASH"),
    ],
)
def test_golden_fields(name, dtype, case):
    nerf, points = load_nerf(GOLDEN_NERF[name]), FIELDS["points"].to(dtype)
    tensors = {key: tensor[None].to(dtype) for key, tensor in nerf.tensors.items()}
    features = nerf.architecture.input_features(tensors, points[None])[0]
    expected = FIELDS[f"{case}.input_features"]
    torch.testing.assert_close(features[:, : expected.shape[1]].double(), expected, rtol=0, atol=5e-6)
    rgb, density = nerf.query(points)
    torch.testing.assert_close(rgb.double(), FIELDS[f"{case}.rgb"], rtol=0, atol=5e-7)
    torch.testing.assert_close(density.double(), FIELDS[f"{case}.density"], rtol=1e-6, atol=0)
    assert 0 < (density == 0).sum() < len(points)  # the golden points lie on both sides of the box


def test_query_keeps_leading_shape_and_handles_few_points():
    nerf = Nerf.random("TRI")
    points = torch.rand(2, 3, 4, 3) - 0.5
    rgb, density = nerf.query(points)
    assert rgb.shape == (2, 3, 4, 3)
    assert density.shape == (2, 3, 4, 1)
    one_rgb, one_density = nerf.query(points[1, 2, 3])
    torch.testing.assert_close(one_rgb, rgb[1, 2, 3])
    torch.testing.assert_close(one_density, density[1, 2, 3])
    assert nerf.query(torch.empty(0, 3))[0].shape == (0, 3)


@pytest.mark.parametrize(
    "architecture",
    [
        MlpArchitecture(hidden_layers=2, hidden_dim=16, bias=True),
        TriplaneArchitecture(resolution=5, channels=3, hidden_dim=16),
        HashArchitecture(levels=3, log2_table_size=9),
    ],
)
def test_stacked_nerfs_equal_single_ones(architecture):
    nerfs = [Nerf.random(architecture, seed=seed) for seed in range(3)]
    points = torch.rand(3, 7, 2, 3) * 1.6 - 0.8
    rgb, density = NerfBatch.stack(nerfs).query(points)
    for i, nerf in enumerate(nerfs):
        single_rgb, single_density = nerf.query(points[i])
        torch.testing.assert_close(rgb[i], single_rgb)
        torch.testing.assert_close(density[i], single_density)


def test_box_is_open():
    points = torch.tensor([[-0.7, 0.0, 0.0], [0.7, 0.0, 0.0], [0.0, 0.0, -0.71], [0.0, 0.69999, 0.0]])
    _, density = Nerf.random("HASH").query(points)
    assert (density[:, 0] > 0).tolist() == [False, False, False, True]


def test_frequency_layout():
    u = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    features = frequency_features(u, 2)[0]
    expected = [f(math.pi * 2**k * x) for x in (0.1, 0.2, 0.3) for k in (0, 1) for f in (math.sin, math.cos)]
    torch.testing.assert_close(features, torch.tensor(expected, dtype=torch.float64))


def test_triplane_axes():
    """A plane that holds its column number reads the first coordinate of its pair, one that holds its row the second."""
    resolution = 4
    line = torch.arange(resolution, dtype=torch.float64)
    planes = torch.zeros(1, 3, resolution, resolution, 6, dtype=torch.float64)
    for plane in range(3):
        planes[0, plane, :, :, 2 * plane] = line[None, :]  # column
        planes[0, plane, :, :, 2 * plane + 1] = line[:, None]  # row
    x, y, z = 0.2, 0.5, 0.9
    u = torch.tensor([[[x, y, z]]], dtype=torch.float64)
    expected = torch.tensor([x, y, x, z, y, z], dtype=torch.float64) * (resolution - 1)
    torch.testing.assert_close(triplane_features(planes, u)[0, 0], expected)


def test_hash_index_by_hand():
    # Dense: x + 16 y + 256 z, modulo the table. Hashed: the three primes of tiny-cuda-nn, in 32 bits.
    cells = torch.tensor([[1, 2, 3], [16, 16, 16]])
    assert hash_corner_indices(cells, 16, 4096).tolist() == [1 + 32 + 768, (16 + 256 + 4096) % 4096]
    by_hand = [
        (c[0] ^ (c[1] * 2654435761 & 0xFFFFFFFF) ^ (c[2] * 805459861 & 0xFFFFFFFF)) % 4096 for c in cells.tolist()
    ]
    assert hash_corner_indices(cells, 32, 4096).tolist() == by_hand


def test_density_gradient_is_cut():
    logits = torch.tensor([0.5, 40.0], dtype=torch.float64, requires_grad=True)
    density_activation(logits).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([math.exp(-0.5), math.exp(15.0)], dtype=torch.float64))


@pytest.mark.parametrize(
    "architecture",
    [HashArchitecture(levels=2, hidden_dim=16), TriplaneArchitecture(resolution=3, channels=2, hidden_dim=16)],
)
def test_gradients_of_weights(architecture):
    nerf = Nerf.random(architecture).to(torch.float64)
    key = "encoding.params" if nerf.family == "hash" else "triplane"
    points = torch.rand(4, 3, dtype=torch.float64) - 0.5

    def query(weights, table):
        return Nerf(architecture, {"mlp_base.params": weights, key: table}).query(points)

    weights, table = nerf.tensors["mlp_base.params"], nerf.tensors[key]
    assert torch.autograd.gradcheck(query, (weights.requires_grad_(), table.requires_grad_()), fast_mode=True)


def test_gradient_of_coordinates():
    nerf = Nerf.random(HashArchitecture(levels=2, hidden_dim=16)).to(torch.float64)
    points = (torch.rand(5, 3, dtype=torch.float64) - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(nerf.query, (points,))
    # Frequency features take the float32 coordinate, so differences say nothing there; the formula does.
    u = torch.tensor([[0.3, 0.4, 0.5]], dtype=torch.float64, requires_grad=True)
    frequency_features(u, 3)[0, 2].backward()
    torch.testing.assert_close(
        u.grad[0, 0], 2 * math.pi * torch.cos(torch.tensor(2 * math.pi * 0.3, dtype=torch.float64))
    )


def test_bad_points():
    nerf = Nerf.random("MLP-32H")
    with pytest.raises(ValueError, match=r"shape \(4, 2\).*expected floating-point world coordinates"):
        nerf.query(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"torch\.int64"):
        nerf.query(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected \(2, \.\.\., 3\)"):
        NerfBatch.stack([nerf, nerf]).query(torch.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="only NeRFs of one architecture stack"):
        NerfBatch.stack([nerf, Nerf.random("MLP")])
    with pytest.raises(ValueError, match="no NeRF to stack"):
        NerfBatch.stack([])
