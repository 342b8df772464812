"""Tokens: rows where the fields read them, the way back, exact turns."""

import pytest
import torch

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, NerfBatch, TriplaneArchitecture
from gmn_encoder.encoders.tokens.lattice import lattice_points
from gmn_encoder.encoders.tokens.rows import point_rows, row_tokens, with_rows
from gmn_encoder.encoders.tokens.sequence import NETWORK, POINT, POSE
from gmn_encoder.encoders.tokens.values import value_tokens
from gmn_encoder.nerfs.families.hash import corner_rows, hash_features
from gmn_encoder.nerfs.families.triplane import corner_cells, triplane_features
from gmn_encoder.nerfs.symmetries import features_mapped, permuted, rescaled
from gmn_encoder.pose.rotations import matrix_of, random_rotations

GRIDS = [
    HashArchitecture(levels=4, log2_table_size=12),  # the paper's: one level dense, three hashed
    HashArchitecture(levels=16, log2_table_size=19, base_resolution=16, max_resolution=2048),  # Instant-NGP's
    HashArchitecture(levels=3, log2_table_size=9, base_resolution=8, max_resolution=32),
    HashArchitecture(levels=2, log2_table_size=14, base_resolution=4, max_resolution=7),  # all dense
    HashArchitecture(levels=1, log2_table_size=5, base_resolution=5, max_resolution=5, features_per_entry=4),
]


def unit_points(count, seed=0):
    return torch.rand(1, count, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("architecture", GRIDS, ids=lambda a: a.name)
def test_every_corner_of_every_level_is_read_where_the_field_reads_it(architecture):
    """A table whose entry n holds n: what the field interpolates is the weighted mean of the rows."""
    entries, features = sum(architecture.level_entries), architecture.features_per_entry
    rows, weights = corner_rows(architecture, unit_points(200))
    assert rows.shape == weights.shape == (1, 200, architecture.levels, 8)
    numbers = torch.arange(entries, dtype=torch.float64)[None, :, None].expand(1, -1, features)
    found = hash_features(architecture, numbers.flatten(1), unit_points(200).double())
    expected = (rows * weights.double()).sum(dim=-1)[..., None].expand(-1, -1, -1, features).flatten(2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3 * entries**0.5)
    starts = torch.tensor([0, *architecture.level_entries]).cumsum(0)
    assert bool(((rows >= starts[:-1, None]) & (rows < starts[1:, None])).all())
    for level in range(architecture.levels):
        for corner in range(8):  # and each by itself: the field there changes with its row, and with no other
            row = int(rows[0, 7, level, corner])
            one = torch.zeros(1, entries, features, dtype=torch.float64)
            one[:, row] = 1
            seen = hash_features(architecture, one.flatten(1), unit_points(200)[:, 7:8].double())
            share = float(weights[0, 7, level][rows[0, 7, level] == row].sum())
            assert float(seen[0, 0, level * features]) == pytest.approx(share, abs=2e-3)


def test_a_dense_level_is_not_hashed():
    """4 vertices an axis, all dense: x runs fastest, then y, then z."""
    architecture = HashArchitecture(levels=1, log2_table_size=10, base_resolution=4, max_resolution=4)
    rows, weights = corner_rows(architecture, torch.tensor([[0.5 / 3, 1.5 / 3, 0.5 / 3]]))
    assert rows[0, 0].tolist() == [
        1 + 2 * 4 + 16 + dx + 4 * dy + 16 * dz for dz in (0, 1) for dy in (0, 1) for dx in (0, 1)
    ]
    assert weights[0, 0, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("resolution", [2, 7, 16])
def test_cells_of_planes(resolution):
    planes = torch.randn(1, 3, resolution, resolution, 3)
    points = torch.cat([unit_points(100), torch.tensor([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]])], dim=1)
    cells, weights = corner_cells(points, resolution)
    read = planes.flatten(1, 3)[0][cells.long()]
    torch.testing.assert_close(
        (read * weights[..., None]).sum(dim=0), triplane_features(planes, points), atol=1e-5, rtol=1e-4
    )


NERFS = [
    Nerf.random(architecture, seed=seed)
    for seed, architecture in enumerate(
        [
            MlpArchitecture(hidden_layers=2, hidden_dim=16, frequencies=8, bias=True),
            TriplaneArchitecture(hidden_layers=1, hidden_dim=16, frequencies=4, resolution=6, channels=5),
            HashArchitecture(hidden_layers=2, hidden_dim=24, levels=3, log2_table_size=9),
        ]
    )
]


@pytest.mark.parametrize("nerf", NERFS, ids=lambda n: n.family)
def test_rows_go_back_where_they_came_from(nerf):
    batch, points = NerfBatch.stack([nerf, nerf]), lattice_points(50, "cube")
    tokens = row_tokens(batch, points, width=256, window=4)
    again = with_rows(batch, tokens, points, window=4)
    for key, tensor in nerf.tensors.items():
        torch.testing.assert_close(again.tensors[key][1], tensor, atol=1e-6, rtol=1e-5)
    changed = with_rows(batch, tokens.with_values(tokens.values + tokens.mask), points, window=4)
    for key, tensor in nerf.tensors.items():
        assert not torch.allclose(changed.tensors[key][0], tensor)


def test_the_order_in_a_point_token_is_corner_level_feature():
    nerf, points = NERFS[2], lattice_points(3, "cube")
    batch = NerfBatch.stack([nerf])
    tokens = row_tokens(batch, points, width=256, window=4)
    rows = point_rows(nerf.architecture, points[None])[0, 1].view(8, 3)
    table = nerf.tensors["encoding.params"].view(-1, 2)
    level = table[: nerf.architecture.level_entries[0]]
    expected = (table[rows[5, 0]] - level.mean()) / level.std(correction=0)
    torch.testing.assert_close(tokens.values[0, 1, (5 * 3 + 0) * 2 :][:2], expected)


def test_what_is_padding_is_masked():
    nerf = NERFS[0]
    tokens = row_tokens(NerfBatch.stack([nerf]), lattice_points(4, "cube"), width=256, window=4).with_pose_tokens(3)
    assert bool((tokens.kinds == NETWORK)[:-3].all()) and tokens.kinds[-3:].tolist() == [POSE] * 3
    assert tokens.values.shape == (1, 4 + 4 + 4 + 3, 256)
    per_neuron = [48 + 1, 16 + 1, 16 + 1]  # inputs and a bias
    sizes = tokens.mask.sum(dim=1).tolist()
    assert sizes == [4 * per_neuron[layer] for layer in (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2)] + [0] * 3
    assert float(tokens.values[:, ~tokens.mask].abs().max()) == 0
    layer = tokens.values[0, :4][tokens.mask[:4]]
    assert float(layer.mean()) == pytest.approx(0, abs=1e-5) and float(layer.std(correction=0)) == pytest.approx(
        1, abs=1e-4
    )


@pytest.mark.parametrize("nerf", NERFS, ids=lambda n: n.family)
def test_a_turned_lattice_is_a_turned_field(nerf):
    """The token at p of a NeRF turned by R holds what the NeRF shows at R^T p; on a lattice of four-fold symmetry, another."""
    batch = NerfBatch.stack([nerf])
    points = lattice_points(40, "shells")
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    points = torch.cat([points @ torch.matrix_power(quarter, n).T for n in range(4)])
    still = value_tokens(batch, points, width=8)
    turned = value_tokens(batch, points, width=8, asked=points[None] @ quarter)
    # R^T p of the block n of points is block n - 1.
    expected = still.values.unflatten(1, (4, 40)).roll(1, 1).flatten(1, 2)
    torch.testing.assert_close(turned.values, expected, atol=2e-3, rtol=2e-3)
    turn = random_rotations(1, torch.Generator().manual_seed(0))
    assert float((points @ matrix_of(turn)[0]).norm(dim=-1).max()) < 0.7


@pytest.mark.parametrize("features", [False, True])
def test_what_is_shown_is_free_of_the_gauge_and_features_are_not(features):
    nerf, points = NERFS[2], lattice_points(30, "shells")
    still = value_tokens(NerfBatch.stack([nerf]), points, width=32, features=features)
    assert bool((still.kinds == POINT).all())
    for change in (permuted, rescaled, features_mapped):
        other = change(nerf, torch.Generator().manual_seed(0))
        tokens = value_tokens(NerfBatch.stack([other]), points, width=32, features=features)
        same = torch.allclose(tokens.values, still.values, atol=1e-3)
        assert same == (not features or change is not features_mapped)


def test_shells_stay_inside_and_lattices_are_the_same_on_every_call():
    for kind in ("cube", "shells"):
        points = lattice_points(96, kind)
        assert points.shape == (96, 3) and float(points.abs().max()) < 0.7
        assert torch.equal(points, lattice_points(96, kind))


def test_what_does_not_fit_is_refused_in_a_sentence():
    points = lattice_points(4, "cube")
    wide = NerfBatch.stack([Nerf.random(MlpArchitecture(hidden_dim=16, frequencies=12))])
    with pytest.raises(ValueError, match=r"matrix 0 of the network reads 80 values.*room for 64"):
        row_tokens(wide, points, width=256, window=4)
    many = NerfBatch.stack(
        [
            Nerf.random(
                HashArchitecture(hidden_dim=16, levels=16, log2_table_size=5, base_resolution=2, max_resolution=9)
            )
        ]
    )
    with pytest.raises(ValueError, match="a point token has 256 values, the encoder's have 128"):
        row_tokens(many, points, width=128, window=2)
