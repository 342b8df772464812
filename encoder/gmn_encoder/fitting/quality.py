"""When a fit has failed: it ends far below what its preset reaches, or there is nothing to fit to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .posed_images import PosedImages

LEAST_PSNR = {"nano": 14.0}
"""dB on held-out views under which a fit of a preset has failed; `_LEAST` for the others."""

_LEAST = 18.0
_FULL = 0.9


def least_psnr(quality: str) -> float:
    """PSNR in dB on held-out views under which a fit with a preset of this name has failed."""
    return LEAST_PSNR.get(quality, _LEAST)


def require_object(posed: PosedImages, device: torch.device) -> None:
    """Raises `ValueError` where the views leave nothing of the box, or nearly all of it, to the object."""
    share = float(posed.hull(device).binary.double().mean())
    if not share:
        raise ValueError(
            "its visual hull is empty: no place in the box is covered in all views that show it; expected cameras that belong to "
            "the images, opacity or masks that are white on the object, and the object in the box (--center X,Y,Z, --scale S)"
        )
    if share > _FULL and not posed.surrounded:
        raise ValueError(
            f"its visual hull is {share:.0%} of the box: opacity or masks leave nothing free around the object; expected an "
            "object before an empty background (--background R,G,B says its colour), or a smaller --scale"
        )


def shortfall(psnr: Sequence[float], least: float | None) -> str | None:
    """What to say about a fit with these PSNRs on held-out views, if it has failed."""
    mean = sum(psnr) / len(psnr) if psnr else None
    if mean is None or least is None or mean >= least:
        return None
    return (
        f"ends at {mean:.1f} dB on views it was not fitted to, under the {least:g} dB from which a fit of this quality counts: "
        "it does not show the object; check that cameras and images belong together, where the object is (--center, --scale, "
        "--up) and what is behind it (--background), or keep it all the same with --keep-poor"
    )
