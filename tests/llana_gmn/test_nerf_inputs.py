from __future__ import annotations

import dataclasses

import pytest
import torch

from gmn_encoder.nerfs.architectures import PAPER_ARCHITECTURES, register_family
from gmn_encoder.nerfs.families import MlpArchitecture
from gmn_encoder.nerfs.record import Nerf
from llana_gmn.nerf_inputs import (
    EMBEDDING,
    architecture_of_row,
    architecture_row,
    columns,
    embedded_rows,
    pack_nerfs,
    unpack_nerfs,
)


@pytest.mark.parametrize("name", PAPER_ARCHITECTURES)
def test_architecture_rows_round_trip(name):
    row = architecture_row(PAPER_ARCHITECTURES[name])
    assert len(row) == len(columns())
    assert architecture_of_row(row) == PAPER_ARCHITECTURES[name]


def test_columns_are_the_kind_and_all_sizes_of_the_families():
    assert columns()[:5] == ("kind", "hidden_layers", "hidden_dim", "bias", "frequencies")
    assert len(columns()) == len(set(columns())) == 12
    assert architecture_row(PAPER_ARCHITECTURES["HASH-3N"]) == [3, 3, 64, 0, 0, 0, 0, 3, 12, 2, 16, 128]


def test_a_new_family_travels_too(own_families):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Odd(MlpArchitecture):
        family = "odd"
        petals: int = 7
        wilted: bool = True

    register_family(Odd, "ODD")
    nerf = Nerf.random(Odd(petals=3, hidden_dim=16, hidden_layers=1, frequencies=2))
    packed = pack_nerfs([[nerf], [Nerf.random("HASH-nano")]], embedding_dim=8)
    (_, _, again), (_, _, other) = unpack_nerfs(packed["nerf_weights"], packed["nerf_architectures"])
    assert again.architecture == nerf.architecture
    assert other.architecture.name == "HASH-nano"


def test_weights_arrive_bit_for_bit_after_a_cast_to_half_precision(nerfs):
    packed = pack_nerfs([[nerfs[0], nerfs[1]], [], [nerfs[2]]], embedding_dim=8)
    assert set(packed) == {"nerf_architectures", "nerf_weights"}
    assert not any(tensor.is_floating_point() for tensor in packed.values())
    found = unpack_nerfs(packed["nerf_weights"], packed["nerf_architectures"])
    assert [(b, k) for b, k, _ in found] == [(0, 0), (0, 1), (2, 0)]
    for (_, _, nerf), original in zip(found, nerfs, strict=True):
        assert nerf.architecture == original.architecture
        for key, tensor in original.tensors.items():
            assert torch.equal(nerf.tensors[key], tensor)


def test_doubles_and_halves_become_float32(nerfs):
    half = nerfs[0].to(torch.bfloat16)
    packed = pack_nerfs([[half]], embedding_dim=8)
    ((_, _, nerf),) = unpack_nerfs(packed["nerf_weights"], packed["nerf_architectures"])
    assert torch.equal(nerf.tensors["mlp_base.params"], half.tensors["mlp_base.params"].float())


def test_embeddings_stand_beside_weights(nerfs):
    vector = torch.arange(8.0)
    packed = pack_nerfs([[vector], [nerfs[0], vector + 1]], embedding_dim=8)
    assert packed["nerf_architectures"][:, :, 0].tolist() == [[EMBEDDING, 0], [1, EMBEDDING]]
    assert torch.equal(packed["nerf_embeddings"][0, 0], vector)
    assert torch.equal(packed["nerf_embeddings"][1, 1], vector + 1)
    assert packed["nerf_embeddings"][1, 0].count_nonzero() == 0
    rows = embedded_rows(packed["nerf_architectures"][..., 0])
    assert rows[..., 0].tolist() == [[EMBEDDING, 0], [EMBEDDING, EMBEDDING]]


def test_nothing_packs_to_nothing():
    assert pack_nerfs([[], []], embedding_dim=8) == {}


def test_contradictions_are_refused(nerfs):
    packed = pack_nerfs([[nerfs[0]]], embedding_dim=8)
    with pytest.raises(ValueError, match="nerf_weights is missing"):
        unpack_nerfs(None, packed["nerf_architectures"])
    with pytest.raises(ValueError, match="bit patterns"):
        unpack_nerfs(packed["nerf_weights"].float(), packed["nerf_architectures"])
    with pytest.raises(ValueError, match="of the same processor call"):
        unpack_nerfs(packed["nerf_weights"][:, :-1], packed["nerf_architectures"])
    with pytest.raises(ValueError, match="is no architecture"):
        architecture_of_row([9] * len(columns()))


def test_other_integer_types_carry_the_bits(nerfs):
    packed = pack_nerfs([[nerfs[2]]], embedding_dim=8)
    ((_, _, nerf),) = unpack_nerfs(packed["nerf_weights"].long(), packed["nerf_architectures"])
    assert torch.equal(nerf.tensors["encoding.params"], nerfs[2].tensors["encoding.params"])


def test_paper_sizes_keep_their_values():
    nerf = Nerf.random("TRI-8C")
    packed = pack_nerfs([[nerf]], embedding_dim=8)
    assert packed["nerf_weights"].shape == (1, nerf.num_parameters)
