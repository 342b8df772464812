"""Snapshots of instant-ngp, written byte by byte."""

from __future__ import annotations

import gzip
import math
import struct
import zlib

import numpy as np
import pytest
import torch

from gmn_encoder.nerfs.importers import find_importer, import_field

from .files import grid_numbers, harmonics, network, tcnn_level_list

pytest.importorskip("msgpack")

SIDE = 8  # of the density grid


def packed(value):
    """msgpack, after its specification."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        return struct.pack(">BB", 0xD9, len(value)) + value.encode()
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, list):
        return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(packed, value))
    return struct.pack(">BI", 0xDF, len(value)) + b"".join(packed(k) + packed(v) for k, v in value.items())


def morton(x, y, z):
    return sum((x >> b & 1) << 3 * b | (y >> b & 1) << 3 * b + 1 | (z >> b & 1) << 3 * b + 2 for b in range(8))


def snapshot(*, aabb_scale=1, extra=0, growth=1.6, levels=4, half=True, dense=None, **dataset):
    """A snapshot's map, and the parts of its weights."""
    generator = np.random.default_rng(7)
    known = tcnn_level_list(levels, 16, growth, 9)
    rows = sum(entries for _, entries in known)
    number = np.float16 if half else np.float32
    shapes = [(64, 16), (16, 64)], [(64, 48 if extra else 32), (64, 64), (16, 64)]
    density, colour = ([(generator.normal(size=s) * 0.3).astype(number) for s in each] for each in shapes)
    table = generator.normal(size=(rows, 2)).astype(number)
    flat = np.concatenate([part.ravel() for part in (*density, *colour, table)])
    cascades = math.ceil(math.log2(aabb_scale)) + 1
    grid = np.zeros((cascades, SIDE**3), np.float16)
    for cascade, *cell in (
        dense if dense is not None else [(k, *c) for k in range(cascades) for c in np.ndindex(8, 8, 8)]
    ):
        grid[cascade, morton(*cell)] = 1.0
    half_side = aabb_scale / 2
    box = {"min": [0.5 - half_side] * 3, "max": [0.5 + half_side] * 3}
    content = {
        "encoding": {
            "otype": "HashGrid",
            "n_levels": levels,
            "n_features_per_level": 2,
            "log2_hashmap_size": 9,
            "base_resolution": 16,
            "per_level_scale": growth,
        },
        "network": {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 64, "n_hidden_layers": 1},
        "rgb_network": {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 64, "n_hidden_layers": 2},
        "dir_encoding": {"otype": "Composite", "nested": [{"otype": "SphericalHarmonics", "degree": 4}]},
        "snapshot": {
            "version": 1,
            "mode": "nerf",
            "params_type": "__half" if half else "float",
            "params_binary": flat.tobytes(),
            "n_params": len(flat),
            "density_grid_size": SIDE,
            "density_grid_binary": grid.tobytes(),
            "aabb": box,
            "render_aabb": box,
            "up_dir": [0.0, 1.0, 0.0],
            "nerf": {"aabb_scale": aabb_scale, "dataset": {"n_extra_learnable_dims": extra, **dataset}},
        },
    }
    return content, (known, table.astype(np.float64), [m.astype(np.float64) for m in density], colour)


def expected(parts, u, look, scale, *, extra=0, hdr=False):
    """Values at a point of the encoded cube, of a direction in the program's axes."""
    levels, table, density, colour = parts
    raw = network(grid_numbers(levels, table, 2, u), density)
    values = network([*raw, *harmonics(look), *[0] * extra], [m.astype(np.float64) for m in colour])[:3]
    return (np.minimum(np.exp(values), 1) if hdr else 1 / (1 + np.exp(-values))), math.exp(raw[0]) * scale


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("wrap", [bytes, gzip.compress, zlib.compress])
def test_values_are_those_of_the_specification(tmp_path, wrap, half):
    content, parts = snapshot(scale=0.25, offset=[0.5, 0.4, 0.6], half=half)
    (tmp_path / "any.name").write_bytes(wrap(packed(content)))
    assert find_importer(tmp_path / "any.name").name == "instant-ngp"
    field = import_field(tmp_path / "any.name")
    generator = np.random.default_rng(1)
    for _ in range(8):
        p = generator.uniform(-1.2, 1.2, 3)
        look = generator.normal(size=3)
        look /= np.linalg.norm(look)
        x, y, z = p * 0.25 + [0.5, 0.4, 0.6]
        colour, dense = expected(parts, [y, z, x], [look[1], look[2], look[0]], 0.25)
        rgb, density = field.query(torch.tensor(p), torch.tensor(look))
        np.testing.assert_allclose(rgb, colour, atol=1e-4)
        assert float(density) == pytest.approx(dense, rel=1e-3)
    assert field.up == (0.0, 0.0, 1.0)  # y in the program's axes is z in the data set's
    np.testing.assert_allclose(field.box, [[-2, -1.6, -2.4], [2, 2.4, 1.6]])
    assert float(field.query(torch.tensor([2.1, 0, 0]))[1]) == 0


def test_a_larger_scene_with_extra_dimensions_and_high_dynamic_range(tmp_path):
    content, parts = snapshot(aabb_scale=4, extra=16, scale=1.0, offset=[0.5] * 3, from_mitsuba=True, is_hdr=True)
    (tmp_path / "a.ingp").write_bytes(packed(content))
    field = import_field(tmp_path / "a.ingp")
    p, look = np.array([1.2, -0.7, 0.3]), np.array([0.0, 0.6, -0.8])
    colour, dense = expected(parts, (p + 0.5 + 1.5) / 4, look, 1.0, extra=16, hdr=True)
    rgb, density = field.query(torch.tensor(p), torch.tensor(look))
    np.testing.assert_allclose(rgb, colour, atol=1e-4)
    assert float(density) == pytest.approx(dense, rel=1e-3)
    assert not field.bounded and field.notes == ("what images have of their own is left at zero",)


def test_voxels_that_the_program_skips_are_empty(tmp_path):
    content, _ = snapshot(
        aabb_scale=2, scale=1.0, offset=[0.5] * 3, from_mitsuba=True, dense=[(0, 6, 1, 3), (1, 7, 0, 4)]
    )
    (tmp_path / "a.ingp").write_bytes(packed(content))
    field = import_field(tmp_path / "a.ingp")
    inner = torch.tensor([[6.5, 1.5, 3.5], [1.5, 6.5, 3.5]]) / 8 - 0.5
    outer = (torch.tensor([[7.5, 0.5, 4.5], [0.5, 7.5, 4.5]]) / 8 - 0.5) * 2
    assert (field.query(torch.cat([inner, outer]))[1][:, 0] > 0).tolist() == [True, False, True, False]


def changed(content, path, value):
    *parents, last = path.split(".")
    each = content
    for parent in parents:
        each = each[parent]
    each[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("snapshot.mode", "sdf", "is a snapshot of a sdf"),
        ("encoding.otype", "TiledGrid", "its encoding is 'TiledGrid'"),
        ("dir_encoding.nested", [{"otype": "Frequency"}], "directions are encoded by 'Frequency'"),
        ("network.activation", "Squareplus", "activation 'Squareplus'"),
        ("snapshot.params_binary", b"\0\0" * 100, "has 100 weights; its networks and its hash grid of 4 levels have"),
        ("snapshot.density_grid_binary", b"\0\0" * 100, "density grid has 100 voxels"),
        ("encoding.n_levels", 10**9, "n_levels is 1000000000"),
        ("snapshot.nerf.dataset", {"scale": 0.0}, "scale is 0"),
        ("snapshot.aabb", {"min": [0, 0, 0], "max": [0, 1, 1]}, "expected a lowest and a highest corner"),
        ("snapshot", {}, "holds no 'snapshot' with weights"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, path, value, message):
    content, _ = snapshot()
    (tmp_path / "a.ingp").write_bytes(packed(changed(content, path, value)))
    with pytest.raises(ValueError, match=rf"a\.ingp.*{message}"):
        import_field(tmp_path / "a.ingp")


def test_truncated_and_bombs(tmp_path):
    file = tmp_path / "a.ingp"
    whole = packed(snapshot()[0])
    for data, message in (
        (whole[: len(whole) // 2], "cut short"),
        (gzip.compress(whole)[:-3000], "cut short"),
        (gzip.compress(whole)[:9000] + b"\xff" * 3000, "broken|cut short"),
        (packed({"a": 1})[:5] + packed("a") + b"\xdd\xff\xff\xff\xff" * 500, "exceeds"),  # lists of 2^32 in each other
        (packed({"a": 1})[:5] + packed("a") + b"\x91" * 5000 + b"\xc0", "too deep.; expected a snapshot"),
    ):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            import_field(file)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_within_bounds(tmp_path, monkeypatch):
    from gmn_encoder.nerfs.importers import instant_ngp

    monkeypatch.setattr(instant_ngp, "_LARGEST", 1 << 20)
    bomb = zlib.compressobj(wbits=31)
    head = packed({"a": 1})[:5] + packed("a") + b"\xc6" + struct.pack(">I", 1 << 30)
    data = bomb.compress(head) + b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    assert len(data) < 1 << 18
    (tmp_path / "a.ingp").write_bytes(data)
    with pytest.raises(ValueError, match="decompresses to more than 1,048,576 bytes"):
        import_field(tmp_path / "a.ingp")
