"""Tables of learnt heads and tokens: what needs no look stands beside, and what must be exact is."""

import math

import pytest
import torch

from gmn_encoder import Nerf, SaneConfig, SaneEncoder
from gmn_encoder.pose.rotations import geodesic_angle, quaternion_of_vector, random_rotations
from llana_eval.representation.pose_heads import HeldOut, mean_rotation, reassembled, rotation_table, tokens_table

SIZES = {
    "points": 24,
    "width": 16,
    "heads": 2,
    "layers": 1,
    "feed_forward": 32,
    "latent_dim": 8,
    "pose_tokens": 3,
    "dropout": 0.0,
}


def about_z(degrees):
    return quaternion_of_vector(torch.tensor([0.0, 0.0, math.radians(degrees)]))


@pytest.fixture
def objects():
    def opaque(seed):
        nerf = Nerf.random("HASH-nano", seed=seed)
        return Nerf(nerf.architecture, {key: 6 * tensor for key, tensor in nerf.tensors.items()})

    turns = random_rotations(3, torch.Generator().manual_seed(0))
    errors = lambda found: torch.rad2deg(geodesic_angle(found, turns)).tolist()  # noqa: E731
    nerfs = [opaque(seed) for seed in range(3)]
    return HeldOut(nerfs, nerfs, turns, errors, [True, True, False])


@pytest.fixture
def encoders():
    torch.manual_seed(0)
    values = SaneConfig(
        **SIZES, tokens="values", lattice="shells", token_dim=8, window=1, network_tokens=1, rotation_head="moments"
    )
    return {"values": SaneEncoder(values).eval(), "rows": SaneEncoder(SaneConfig(**SIZES, projection=(8, 8))).eval()}


def test_the_mean_rotation_knows_no_signs():
    quaternions = torch.stack([about_z(10), -about_z(20), about_z(30)])
    mean = mean_rotation(quaternions)[0]
    assert float((mean @ about_z(20)).abs()) == pytest.approx(1, abs=1e-6)


def test_errors_stand_beside_those_of_no_look(objects, encoders):
    rows = rotation_table(objects, encoders).rows
    assert [row[0] for row in rows[::2]] == ["chance", "identity", "mean rotation", "head of values", "head of rows"]
    assert {row[1:3] for row in rows} == {("asymmetric", "2"), ("all, modulo symmetry", "3")}
    identity = objects.errors(torch.eye(4)[:1].expand(3, -1))
    assert rows[3][3] == f"{sorted(identity)[1]:.1f}"


def test_positions_alone_find_an_object_by_chance_and_values_do_not_leak(objects, encoders):
    table = tokens_table(objects, encoders)
    names = [column.name for column in table.columns]
    values, rows = (dict(zip(names, row, strict=True)) for row in table.rows)
    assert values["positions only"] == rows["positions only"] == "33%"
    assert values["recall@1"] == rows["recall@1"] == "100%"  # the very same files here
    assert values["neurons permuted"] == values["features mapped"] == "0.00"
    assert float(rows["neurons permuted"]) > 0.01 and float(rows["features mapped"]) > 0.01
    assert values["PSNR"] == "" and rows["PSNR"] != ""


@torch.no_grad()
def test_tokens_that_come_back_whole_make_the_same_nerf(objects, encoders, monkeypatch):
    encoder = encoders["rows"]
    monkeypatch.setattr(encoder, "reconstruct", lambda view: view.tokens.values)
    known, unknown = reassembled(encoder, objects.nerfs[:1])
    assert known > 60 > unknown
