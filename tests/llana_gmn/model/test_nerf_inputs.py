from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from transformers import BatchFeature

from gmn_encoder.nerfs.architectures import PAPER_ARCHITECTURES, register_family
from gmn_encoder.nerfs.families import MlpArchitecture
from gmn_encoder.nerfs.record import Nerf
from llana_gmn.model.nerf_inputs import (
    EMBEDDING,
    architecture_of_row,
    architecture_row,
    embedded_rows,
    pack_nerfs,
    unpack_nerfs,
)


@pytest.mark.parametrize("name", PAPER_ARCHITECTURES)
def test_architecture_rows_round_trip(name):
    row = architecture_row(PAPER_ARCHITECTURES[name])
    assert architecture_of_row(row) == architecture_of_row([*row, 0, 0]) == PAPER_ARCHITECTURES[name]


def test_a_row_is_the_kind_and_json_in_eights_of_bytes():
    row = architecture_row(PAPER_ARCHITECTURES["MLP"])
    text = b"".join(number.to_bytes(8, "little", signed=True) for number in row[1:])
    assert row[0] == 1 and json.loads(text.rstrip(b"\0")) == PAPER_ARCHITECTURES["MLP"].to_dict()


def test_a_new_family_travels_too(own_families):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Odd(MlpArchitecture):
        family = "odd"
        petals: int = 7
        wilted: bool = True

    register_family(Odd, "ODD")
    nerf = Nerf.random(Odd(petals=3, hidden_dim=16, hidden_layers=1, frequencies=2))
    packed = pack_nerfs([[nerf], [Nerf.random("HASH-nano")]], embedding_shape=(8,))
    (_, _, again), (_, _, other) = unpack_nerfs(packed["nerf_weights"], packed["nerf_architectures"])
    assert again.architecture == nerf.architecture
    assert other.architecture.name == "HASH-nano"


@pytest.fixture
def boxed(own_families):
    """A family whose box is floats, with a word and a nested tuple among its sizes."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Boxed(MlpArchitecture):
        family = "boxed"
        low: tuple[float, float, float] = (-1.0, -1.0, -1.0)
        high: tuple[float, float, float] = (1.0, 1.0, 1.0)
        step: float = 0.1
        convention: str = "opencv"
        parts: tuple[tuple[str, int], ...] = ()

        @property
        def box(self):
            return self.low, self.high

    register_family(Boxed, "BOXED")
    sizes = {
        "low": (-math.pi, 1e-300, -0.0),
        "high": (0.1 + 0.2, 1 / 3, 1e17 + 16),
        "step": float.fromhex("0x1.fffffffffffffp-7"),
        "convention": "größer \u2713",
        "parts": (("a", 1), ("b", -(2**70))),
    }
    return Nerf.random(Boxed(hidden_dim=16, hidden_layers=1, frequencies=2, **sizes))


def test_floats_words_and_tuples_travel_bit_for_bit_through_casts(boxed, nerfs):
    packed = pack_nerfs([[boxed], [nerfs[2], boxed]], embedding_shape=(8,))
    cast = BatchFeature(packed).to(torch.bfloat16)
    assert not any(tensor.is_floating_point() for tensor in cast.values())
    found = unpack_nerfs(
        cast["nerf_weights"].repeat_interleave(2, 0), cast["nerf_architectures"].repeat_interleave(2, 0)
    )
    assert [(b, k) for b, k, _ in found] == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
    for _, _, nerf in (found[0], found[3]):
        # repr tells floats apart to the last bit, -0.0 and 0.0 too
        assert repr(nerf.architecture.to_dict()) == repr(boxed.architecture.to_dict())
        assert nerf.architecture == boxed.architecture and hash(nerf.architecture) == hash(boxed.architecture)
        assert all(torch.equal(nerf.tensors[key], tensor) for key, tensor in boxed.tensors.items())
    assert found[2][2].architecture == nerfs[2].architecture


def test_a_model_reads_such_a_family_as_its_encoder_does(boxed, model, processor):
    inputs = processor(nerfs=[boxed], text="<nerf> What?", return_tensors="pt").to(torch.bfloat16)
    embedded = processor(nerfs=model.encode([boxed]), text="<nerf> What?", return_tensors="pt")
    torch.testing.assert_close(model(**inputs).logits, model(**embedded).logits)


def test_sizes_that_json_does_not_bring_back_are_refused(own_families):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Strange(MlpArchitecture):
        family = "strange"
        what: object = frozenset()

    architecture = Strange(hidden_dim=16)
    with pytest.raises(ValueError, match="'strange' is not registered; call register_family first"):
        architecture_row(architecture)
    register_family(Strange, "STRANGE")
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        architecture_row(architecture)
    with pytest.raises(ValueError, match=r"JSON brings back .*'what': \('a',\)"):
        architecture_row(Strange(hidden_dim=16, what=["a"]))


def test_weights_arrive_bit_for_bit_after_a_cast_to_half_precision(nerfs):
    packed = pack_nerfs([[nerfs[0], nerfs[1]], [], [nerfs[2]]], embedding_shape=(8,))
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
    packed = pack_nerfs([[half]], embedding_shape=(8,))
    ((_, _, nerf),) = unpack_nerfs(packed["nerf_weights"], packed["nerf_architectures"])
    assert torch.equal(nerf.tensors["mlp_base.params"], half.tensors["mlp_base.params"].float())


def test_embeddings_stand_beside_weights(nerfs):
    vector = torch.arange(8.0)
    packed = pack_nerfs([[vector], [nerfs[0], vector + 1]], embedding_shape=(8,))
    assert packed["nerf_architectures"][:, :, 0].tolist() == [[EMBEDDING, 0], [1, EMBEDDING]]
    assert torch.equal(packed["nerf_embeddings"][0, 0], vector)
    assert torch.equal(packed["nerf_embeddings"][1, 1], vector + 1)
    assert packed["nerf_embeddings"][1, 0].count_nonzero() == 0
    rows = embedded_rows(packed["nerf_architectures"][..., 0])
    assert rows[..., 0].tolist() == [[EMBEDDING, 0], [EMBEDDING, EMBEDDING]]


def test_nothing_packs_to_nothing():
    assert pack_nerfs([[], []], embedding_shape=(8,)) == {}


def test_contradictions_are_refused(nerfs):
    packed = pack_nerfs([[nerfs[0]]], embedding_shape=(8,))
    with pytest.raises(ValueError, match="nerf_weights is missing"):
        unpack_nerfs(None, packed["nerf_architectures"])
    with pytest.raises(ValueError, match="bit patterns"):
        unpack_nerfs(packed["nerf_weights"].float(), packed["nerf_architectures"])
    with pytest.raises(ValueError, match="of the same processor call"):
        unpack_nerfs(packed["nerf_weights"][:, :-1], packed["nerf_architectures"])
    with pytest.raises(ValueError, match="is no architecture"):
        architecture_of_row([9] * 12)
    for numbers in ([], [0x5D5B], [1 << 62] * 3):  # nothing, a list, no text
        with pytest.raises(ValueError, match="is no architecture"):
            architecture_of_row([1, *numbers])


def test_other_integer_types_carry_the_bits(nerfs):
    packed = pack_nerfs([[nerfs[2]]], embedding_shape=(8,))
    ((_, _, nerf),) = unpack_nerfs(packed["nerf_weights"].long(), packed["nerf_architectures"])
    assert torch.equal(nerf.tensors["encoding.params"], nerfs[2].tensors["encoding.params"])


def test_paper_sizes_keep_their_values():
    nerf = Nerf.random("TRI-8C")
    packed = pack_nerfs([[nerf]], embedding_shape=(8,))
    assert packed["nerf_weights"].shape == (1, nerf.num_parameters)
