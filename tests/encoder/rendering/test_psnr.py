import pytest
import torch

from gmn_encoder.rendering.psnr import psnr, psnr_of_error


def test_psnr_by_hand():
    """An error of 0.1 everywhere: -10 log10(0.01) = 20 dB. No error: capped at 100 dB."""
    assert psnr(torch.zeros(2, 3), torch.full((2, 3), 0.1)).item() == pytest.approx(20.0, abs=1e-4)
    assert psnr_of_error(torch.tensor([0.01, 0.0])).tolist() == pytest.approx([20.0, 100.0], abs=1e-4)
