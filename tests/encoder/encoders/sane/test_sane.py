"""The SANE encoder as an encoder of NeRFs, and its rotation heads."""

import pytest
import torch

from gmn_encoder import HashArchitecture, Nerf, NerfBatch, NerfEncoder, SaneConfig, SaneEncoder, load_encoder
from gmn_encoder.encoders.base import EncoderConfig, num_tokens
from gmn_encoder.encoders.tokens.sequence import POSE
from gmn_encoder.nerfs.symmetries import permuted
from gmn_encoder.pose.rotations import geodesic_angle, matrix_of, multiply, random_rotations

SMALL = {
    "points": 24,
    "width": 16,
    "heads": 2,
    "layers": 1,
    "feed_forward": 32,
    "latent_dim": 8,
    "pose_tokens": 3,
    "dropout": 0.0,
}
ROWS = SaneConfig(**SMALL, projection=(8, 8))
VALUES = SaneConfig(
    **SMALL, tokens="values", lattice="shells", token_dim=8, window=1, network_tokens=1, rotation_head="moments"
)


@pytest.fixture(scope="module")
def nerfs():
    return [
        Nerf.random(name, seed=seed) for seed, name in enumerate(("MLP-nano", "TRI-nano", "HASH-nano", "HASH-nano"))
    ]


@pytest.fixture(params=[ROWS, VALUES], ids=["rows", "values"])
def encoder(request):
    torch.manual_seed(0)
    return SaneEncoder(request.param).eval()


def test_it_is_an_encoder_of_nerfs(encoder, nerfs, tmp_path):
    assert isinstance(encoder, NerfEncoder) and isinstance(encoder.config, EncoderConfig)
    embeddings, tokens = encoder.encode(nerfs), encoder.encode_tokens(nerfs, batch_size=1)
    assert embeddings.shape == (4, 8) and tokens.shape == (4, num_tokens(encoder.config), 8) == (4, 4, 8)
    torch.testing.assert_close(tokens[:, 0], embeddings, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoder.encode(nerfs[::-1]).flip(0), embeddings, atol=1e-4, rtol=1e-4)
    assert encoder.encode(nerfs[:1], dtype=torch.bfloat16).dtype == torch.float32
    encoder.save_pretrained(tmp_path)
    again = load_encoder(tmp_path)
    assert again.config == encoder.config and again.fingerprint() == encoder.fingerprint()
    torch.testing.assert_close(again.encode(nerfs), embeddings)
    assert encoder.executes_fields == (encoder.config.tokens == "values")


@torch.no_grad()
def test_tokens_come_back_in_their_shape(encoder, nerfs):
    view = encoder(encoder.tokenise(NerfBatch.stack(nerfs[2:])))
    values = encoder.reconstruct(view)
    assert values.shape == view.tokens.values.shape
    assert float(values[:, view.tokens.kinds == POSE].abs().max()) == 0
    assert view.pose.shape == (2, 3, 8) and view.content.shape[1] + 3 == len(view.tokens.kinds)


@torch.no_grad()
def test_positions_say_nothing_of_the_nerf(encoder, nerfs):
    """With the values blanked, all NeRFs of an architecture are one: no contrastive loss can be solved by positions."""
    tokens = encoder.tokenise(NerfBatch.stack(nerfs[2:]), random_rotations(2, torch.Generator().manual_seed(0)))
    blank = encoder(tokens.with_values(torch.zeros_like(tokens.values)))
    torch.testing.assert_close(blank.latents[0], blank.latents[1])


def test_an_encoder_of_values_sees_the_field_alone(nerfs):
    torch.manual_seed(0)
    other = permuted(nerfs[2], torch.Generator().manual_seed(0))
    by_values, by_rows = SaneEncoder(VALUES).eval(), SaneEncoder(ROWS).eval()
    torch.testing.assert_close(by_values.encode([other]), by_values.encode([nerfs[2]]), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(by_rows.encode([other]), by_rows.encode([nerfs[2]]), atol=1e-3)


@torch.no_grad()
def test_vectors_turn_with_the_object_whatever_the_weights():
    """On points that a quarter turn maps to themselves the head of moments is exact without any training."""
    encoder = SaneEncoder(VALUES).eval()
    turn = torch.tensor([[0.5**0.5, 0.0, 0.0, 0.5**0.5]])
    block = encoder.points[::4]
    quarter = matrix_of(turn[0])
    encoder.points = torch.cat([block @ torch.matrix_power(quarter, n).T for n in range(4)])
    nerf = Nerf.random(HashArchitecture(hidden_dim=16), seed=3)
    batch = NerfBatch(nerf.architecture, {key: 8 * tensor[None] for key, tensor in nerf.tensors.items()})
    views = [encoder(encoder.tokenise(batch, turns)) for turns in (None, turn)]
    found = encoder.rotation(*(encoder.pose_of(view) for view in views))
    assert float(torch.rad2deg(geodesic_angle(found, turn))) < 1
    assert (
        float(torch.rad2deg(geodesic_angle(encoder.rotation(*(encoder.pose_of(views[0]),) * 2), torch.eye(4)[:1])))
        < 1e-2
    )


@torch.no_grad()
def test_the_rotation_between_sets_of_vectors():
    generator = torch.Generator().manual_seed(0)
    turns = random_rotations(20, generator)
    vectors = torch.randn(20, 6, 3, generator=generator)
    encoder = SaneEncoder(VALUES)
    found = encoder.rotation(vectors, vectors @ matrix_of(turns).transpose(1, 2))
    assert float(torch.rad2deg(geodesic_angle(found, turns)).max()) < 0.1
    assert torch.allclose(found.norm(dim=-1), torch.ones(20))


@pytest.mark.parametrize("config", [ROWS, VALUES], ids=["attention", "moments"])
def test_gradients_at_identical_views_are_finite(config, nerfs):
    encoder = SaneEncoder(config)
    view = encoder(encoder.tokenise(NerfBatch.stack(nerfs[2:])))
    pose = encoder.pose_of(view)
    identity = torch.eye(4)[:1].expand(2, -1)
    loss = geodesic_angle(encoder.rotation(pose, pose), identity).square().mean()
    loss.backward()
    gradients = [p.grad for p in encoder.rotation.parameters() if p.grad is not None]
    assert gradients and all(bool(each.isfinite().all()) for each in gradients) and bool(loss.detach().isfinite())


def test_relative_rotations_are_unit_quaternions(encoder, nerfs):
    found = encoder.relative_rotations(nerfs, nerfs[::-1])
    assert torch.allclose(found.norm(dim=-1), torch.ones(4), atol=1e-5)
    turned = multiply(found, found)
    assert bool(turned.isfinite().all())
    with pytest.raises(ValueError, match="expected as many"):
        encoder.relative_rotations(nerfs, nerfs[:1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": "both"}, "tokens must be one of rows, values"),
        ({"width": 10, "heads": 4}, "share evenly"),
        ({"token_dim": 30}, "multiple of window"),
        ({"rotation_head": "moments"}, "ask the field"),
        ({"features": True}, "ask the field"),
        ({"layers": 0}, "must be an integer"),
        ({"projection": (3,)}, "two positive integers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_configurations_that_are_none(changes, said):
    with pytest.raises(ValueError, match=said):
        SaneConfig(**changes)


def test_nerfs_that_do_not_fit_are_named(nerfs):
    encoder = SaneEncoder(ROWS)
    with pytest.raises(ValueError, match="MLP NeRF: matrix 0 of the network reads 144 values"):
        encoder.encode([Nerf.random("MLP")])
    few = SaneEncoder(SaneConfig(**SMALL, network_tokens=5, projection=(8, 8)))
    with pytest.raises(ValueError, match="makes 16 tokens, the encoder has places for 5"):
        few.encode(nerfs[:1])


def test_fields_that_are_not_finite_are_refused(nerfs):
    wild = Nerf(nerfs[0].architecture, {key: tensor * 1e30 for key, tensor in nerfs[0].tensors.items()})
    with pytest.raises(ValueError, match="NaN or infinite"):
        SaneEncoder(VALUES).encode([wild])
