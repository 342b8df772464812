import torch

from gmn_encoder import Nerf, load_nerf
from tests.conftest import GOLDEN_NERF


def test_it_shows_itself_in_one_line():
    nerf = load_nerf(GOLDEN_NERF["TRI"])
    assert repr(nerf) == f"Nerf(TRI, 77,824 parameters, {nerf.source})"
    assert repr(Nerf.random("MLP-nano")) == "Nerf(MLP-nano, 2,112 parameters)"


def test_moving_does_not_look_at_the_values_again():
    nerf = Nerf.random("MLP-nano")
    large = Nerf(nerf.architecture, {key: tensor * 1e6 for key, tensor in nerf.tensors.items()}, source=nerf.source)
    half = large.to(torch.float16)
    assert half.architecture == large.architecture
    assert all(tensor.dtype == torch.float16 and tensor.isinf().any() for tensor in half.tensors.values())
    assert all(tensor.dtype == torch.float32 for tensor in large.tensors.values())


def test_random_weights_are_normal():
    for tensor in Nerf.random("HASH", seed=1).tensors.values():
        torch.testing.assert_close(tensor.std(), torch.tensor(0.1), rtol=0.05, atol=0)
        torch.testing.assert_close(tensor.mean(), torch.tensor(0.0), rtol=0, atol=0.01)
