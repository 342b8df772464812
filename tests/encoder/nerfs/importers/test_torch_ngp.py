"""Checkpoints of torch-ngp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gmn_encoder.nerfs.importers import find_importer, import_field

from .files import grid_numbers, harmonics, network, tcnn_level_list


def levels_of(bound, table=2**19, *, levels=16, vertex=1):
    """Scale and rows of each level, as its grid encoder computes them."""
    growth = 2 ** (math.log2(2048 * bound / 16) / (levels - 1))
    rows = [min(table, math.ceil(round(16 * growth**n, 6) + vertex) ** 3) for n in range(levels)]
    return [(16 * growth**n - 1, -(-count // 8) * 8) for n, count in enumerate(rows)]


def test_sizes_of_the_grid_are_those_of_the_programs_files():
    assert sum(rows for _, rows in levels_of(1)) == 6_119_864
    assert sum(rows for _, rows in levels_of(2)) == 6_328_848


def model(bound=1, *, vertex=1, table=2**13):
    generator = np.random.default_rng(2)
    levels = levels_of(bound, table, vertex=vertex)
    offsets = np.cumsum([0, *(rows for _, rows in levels)]).astype(np.int32)
    embeddings = generator.normal(size=(offsets[-1], 2)).astype(np.float32)
    shapes = {"sigma_net": [(64, 32), (16, 64)], "color_net": [(64, 31), (64, 64), (3, 64)]}
    weights = {k: [generator.normal(size=s).astype(np.float32) * 0.2 for s in each] for k, each in shapes.items()}
    state = {
        "aabb_train": torch.tensor([-bound] * 3 + [bound] * 3, dtype=torch.float32),
        "aabb_infer": torch.tensor([-bound] * 3 + [bound] * 3, dtype=torch.float32),
        "encoder.embeddings": torch.from_numpy(embeddings),
        "encoder.offsets": torch.from_numpy(offsets),
    }
    for name, matrices in weights.items():
        state |= {f"{name}.{number}.weight": torch.from_numpy(matrix) for number, matrix in enumerate(matrices)}
    return state, (levels, embeddings.astype(np.float64), weights["sigma_net"], weights["color_net"])


def expected(parts, point, look, bound, *, extra=1):
    levels, table, density, colour = parts
    raw = network(grid_numbers(levels, table, 2, (point + bound) / (2 * bound), extra=extra), density)
    return 1 / (1 + np.exp(-network([*harmonics(look), *raw[1:16]], colour)[:3])), math.exp(raw[0])


@pytest.mark.parametrize(("bound", "vertex"), [(1, 1), (2, 1), (1, 0)])
def test_values_are_those_of_the_specification(tmp_path, bound, vertex):
    state, parts = model(bound, vertex=vertex)
    # Its statistics hold a number of numpy, which plain checkpoints do not.
    torch.save({"epoch": 3, "stats": {"best": np.float64(1.5)}, "model": state}, tmp_path / "x.bin")
    assert find_importer(tmp_path / "x.bin").name == "torch-ngp"
    field = import_field(tmp_path / "x.bin")
    generator = np.random.default_rng(1)
    for _ in range(8):
        point, look = generator.uniform(-bound, bound, 3), generator.normal(size=3)
        look /= np.linalg.norm(look)
        colour, dense = expected(parts, point, look, bound, extra=vertex)
        rgb, density = field.query(torch.tensor(point), torch.tensor(look))
        np.testing.assert_allclose(rgb, colour, atol=2e-4)
        assert float(density) == pytest.approx(dense, rel=1e-3)
    assert float(field.query(torch.tensor([bound * 1.01, 0, 0]))[1]) == 0
    assert field.up == (0.0, 1.0, 0.0) and any("scale and offset" in note for note in field.notes)


def test_tcnn_weights(tmp_path):
    state, (_, _, density, colour) = model()
    levels = tcnn_level_list(16, 16, 2 ** (math.log2(128) / 15), 19)
    rows = sum(entries for _, entries in levels)
    assert rows == 6_098_120
    table = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    colour = [
        np.pad(colour[0], ((0, 0), (0, 1)), constant_values=0.25),
        colour[1],
        np.pad(colour[2], ((0, 13), (0, 0))),
    ]
    flat = {name: np.concatenate([m.ravel() for m in each]) for name, each in (("sigma", density), ("color", colour))}
    state = {key: value for key, value in state.items() if key.startswith("aabb")}
    state |= {"encoder.params": torch.from_numpy(table.ravel())}
    state |= {f"{name}_net.params": torch.from_numpy(part) for name, part in flat.items()}
    torch.save({"model": state}, tmp_path / "ngp.pth")
    field = import_field(tmp_path / "ngp.pth")
    point, look = np.array([0.3, -0.2, 0.5]), np.array([0.6, 0.0, -0.8])
    rounded, dense = expected((levels, table.astype(np.float64), density, colour), point, look, 1, extra=0)
    rgb, density_found = field.query(torch.tensor(point), torch.tensor(look))
    # The scales of the finest levels are rounded to float32 there.
    np.testing.assert_allclose(rgb, rounded, atol=5e-3)
    assert float(density_found) == pytest.approx(dense, rel=2e-2)


def test_voxels_that_the_program_skips_are_empty(tmp_path):
    state, _ = model(2)
    grid = torch.zeros(2, 512)
    grid[0, 0b011_001] = grid[1, 0] = (
        50.0  # Morton: voxel (3, 2, 0) of the cube of side 2, (0, 0, 0) of the one of side 4
    )
    bits = torch.tensor(np.packbits((grid > 0).numpy(), bitorder="little").ravel())
    for more in ({}, {"density_bitfield": bits}):
        torch.save({"model": {**state, "density_grid": grid, **more}}, tmp_path / "ngp.pth")
        field = import_field(tmp_path / "ngp.pth")
        cells = torch.tensor([[3.5, 2.5, 0.5], [2.5, 3.5, 0.5]]) / 4 - 1
        points = torch.cat([cells, torch.tensor([[-1.9, -1.9, -1.9], [1.9, 1.9, 1.9]])])
        assert (field.query(points)[1][:, 0] > 0).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.offsets": torch.tensor([0, 5])}, "expected them to add up"),
        ({"sigma_net.1.weight": torch.zeros(16, 3)}, "sigma_net.1.weight"),
        ({"aabb_train": torch.zeros(6)}, "its bound is 0.0"),
        ({"encoder_deform.params": torch.zeros(1)}, "is a D-NeRF model"),
        ({"density_grid": torch.zeros(1, 100)}, "expected cascades of cubes"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, changes, message):
    state, _ = model()
    torch.save({"model": {**state, **changes}}, tmp_path / "ngp.pth")
    with pytest.raises(ValueError, match=rf"ngp\.pth: .*{message}"):
        import_field(tmp_path / "ngp.pth")


def test_an_sdf_model_is_refused(tmp_path):
    state, _ = model()
    torch.save({"model": {k: v for k, v in state.items() if k != "aabb_train"}}, tmp_path / "ngp.pth")
    with pytest.raises(ValueError, match="aabb_train"):
        import_field(tmp_path / "ngp.pth")
