"""The decoder against the published numbers, against itself unsplit, and with what does not fit it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder import DecoderConfig, NerfDecoder
from gmn_encoder.rendering.cameras import Rays
from gmn_encoder.rendering.render import render_rays
from tests.conftest import GOLDEN


@pytest.fixture(scope="module")
def golden_io():
    return load_file(GOLDEN / "decoder_io.safetensors")


def golden_state(case, manifest):
    """Weights of a golden case: a file, or drawn as the manifest says."""
    if case == "small":
        return load_file(GOLDEN / "decoder_small_weights.safetensors")
    about = manifest["decoder"][case]
    state = {}
    for i, key in enumerate(sorted(about["keys"])):
        shape = about["keys"][key][0]
        bound = 0.1 if len(shape) == 1 else 1.5 / np.sqrt(shape[1])
        draw = np.random.RandomState(about["recipe_seed"] + i).uniform(-bound, bound, shape)
        state[key] = torch.from_numpy(draw.astype(np.float32))
    return state


def tiny_decoder(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return NerfDecoder(DecoderConfig(embedding_dim=5, hidden_dim=7, frequencies=2)).to(dtype)


def unsplit(decoder, embeddings, xyz):
    """The network as the paper draws it: the embedding beside every point's features."""
    features, inside = decoder.coordinate_features(xyz)
    z = torch.cat([embeddings[:, None].expand(-1, xyz.shape[1], -1), features.to(embeddings.dtype)], dim=-1)
    hidden = decoder.before_skip(decoder.in_layer(z)) + decoder.skip_proj(z)
    raw = decoder.after_skip(hidden)
    return torch.sigmoid(raw[..., :3]), torch.exp(raw[..., 3:] - 1) * inside


@pytest.mark.parametrize("case", ["small", "paper", "full"])
def test_golden(case, golden_io, golden_manifest):
    decoder = NerfDecoder.from_state_dict(golden_state(case, golden_manifest))
    embeddings, coords = golden_io[f"{case}.embeddings"], golden_io[f"{case}.coords"]
    rgb, density = decoder(embeddings, coords)
    torch.testing.assert_close(rgb.double(), golden_io[f"{case}.f32arg.rgb_f64"], rtol=0, atol=2e-6)
    torch.testing.assert_close(density.double(), golden_io[f"{case}.f32arg.density_f64"], rtol=1e-5, atol=1e-6)
    rgb, density = decoder.double()(embeddings.double(), coords.double())
    torch.testing.assert_close(rgb, golden_io[f"{case}.exact64.rgb_f64"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(density, golden_io[f"{case}.exact64.density_f64"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("case", "features"), [("paper", 144), ("full", 288)])
def test_sizes_are_read_off_the_weights(case, features, golden_manifest):
    config = NerfDecoder.from_state_dict(golden_state(case, golden_manifest)).config
    assert (config.embedding_dim, config.hidden_dim, config.features) == (1024, 1024, features)


def test_split_form_equals_the_unsplit_one_in_values_and_gradients():
    decoder = tiny_decoder()
    embeddings = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    xyz = torch.rand(3, 11, 3, dtype=torch.float64) * 2 - 1  # some outside the box
    leaves = [embeddings, *decoder.parameters()]
    results = decoder(embeddings, xyz), unsplit(decoder, embeddings, xyz)
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(rgb.square().sum() + d.sin().sum(), leaves) for rgb, d in results]
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_gradients_against_finite_differences():
    decoder = tiny_decoder(1)
    embeddings = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    xyz = torch.rand(2, 4, 3, dtype=torch.float64) - 0.5
    names, parameters = zip(*decoder.named_parameters(), strict=True)

    def outputs(embeddings, *values):
        return torch.func.functional_call(decoder, dict(zip(names, values, strict=True)), (embeddings, xyz))

    assert torch.autograd.gradcheck(outputs, (embeddings, *parameters))


def test_points_of_mixed_nerfs_ask_their_own():
    decoder = tiny_decoder(2)
    embeddings, xyz = torch.randn(3, 5, dtype=torch.float64), torch.rand(6, 3, dtype=torch.float64) - 0.5
    owner = torch.tensor([2, 0, 1, 1, 2, 0])
    rgb, density = decoder.field(embeddings)(xyz, owner)
    for i, nerf in enumerate(owner.tolist()):
        alone = decoder(embeddings[nerf : nerf + 1], xyz[None, i : i + 1])
        torch.testing.assert_close((rgb[i], density[i]), (alone[0][0, 0], alone[1][0, 0]))


def test_renders_through_the_callback():
    decoder = tiny_decoder(dtype=torch.float32)
    rays = Rays(torch.tensor([[0.0, 0, 2], [0.3, 0, 2]]), torch.tensor([[0.0, 0, -1]]).repeat(2, 1))
    seen = render_rays(decoder.field(torch.randn(1, 5)), rays, background=torch.ones(3))
    assert seen.colour.shape == (2, 3)
    assert bool((seen.opacity > 0).all())


def test_no_points():
    rgb, density = tiny_decoder()(torch.randn(2, 5, dtype=torch.float64), torch.zeros(2, 0, 3, dtype=torch.float64))
    assert rgb.shape == (2, 0, 3)
    assert density.shape == (2, 0, 1)


def test_bad_input():
    decoder = tiny_decoder()
    state = decoder.state_dict()
    with pytest.raises(ValueError, match=r"embeddings have shape \[2, 6\]; expected \(B, 5\)"):
        decoder(torch.zeros(2, 6), torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match=r"expected \(B, D\) and \(B, S, 3\)"):
        decoder(torch.zeros(2, 5), torch.zeros(3, 4, 3))
    with pytest.raises(ValueError, match="does not read embeddings of 6"):
        NerfDecoder.from_state_dict(state)(torch.zeros(2, 6), torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match=r"'after_skip.2.bias' is missing"):
        NerfDecoder.from_state_dict({k: v for k, v in state.items() if k != "after_skip.2.bias"})
    with pytest.raises(ValueError, match="'extra' is unknown"):
        NerfDecoder.from_state_dict({**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="NaN"):
        NerfDecoder.from_state_dict({**state, "after_skip.2.bias": torch.full((4,), float("nan"))})
    with pytest.raises(ValueError, match="holds no decoder"):
        NerfDecoder.from_state_dict({"scale": torch.zeros(())})
    with pytest.raises(ValueError, match="hidden_dim must be a positive integer"):
        DecoderConfig(hidden_dim=0)
