"""Peak signal-to-noise ratio of colours in 0..1, the measure of every rendering here."""

from __future__ import annotations

from torch import Tensor


def psnr(colour: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of colours in 0..1 against a target of the same shape, a scalar."""
    return psnr_of_error((colour - target).square().mean())


def psnr_of_error(error: Tensor) -> Tensor:
    """PSNR in dB of mean squared errors, of any shape; at most 100."""
    return -10 * error.clamp(min=1e-10).log10()
