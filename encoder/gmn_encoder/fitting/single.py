"""One object that a user brings, a mesh file, a posed image folder or a foreign field, as NeRFs of some families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..files import StrPath
from ..nerfs.architectures import FAMILY_NAMES, NANO_ARCHITECTURES, NerfArchitecture, family_class, paper_families
from ..objects import ViewSettings
from ..progress import Progress, no_progress
from .job import FitJob
from .output import nerf_directory
from .placement import PlacementRequest
from .presets import preset
from .quality import least_psnr
from .sources import path_source

OWN_CLASS = "own"
"""Directory name in place of a class, of objects whose class nobody said."""


def fit_architecture(family: str, quality: str) -> NerfArchitecture:
    """What a family is fitted as: in "nano" quality its nano member, if it has one, else its default architecture.

    Raises `ValueError` for an unknown family.
    """
    default = family_class(family)()
    return NANO_ARCHITECTURES.get(f"{FAMILY_NAMES[family]}-nano", default) if quality == "nano" else default


def fit_object(
    path: StrPath,
    out: StrPath,
    *,
    families: Sequence[str] | None = None,
    quality: str = "nano",
    class_id: str = OWN_CLASS,
    background: Tensor | None = None,
    placement: PlacementRequest | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Path]:
    """Fit an object in each family, from the same views, whatever stood in `out` before unless it is to be continued.

    Seed and settings are those of ``llana-gmn fit --quality QUALITY``.

    Args:
        path: a mesh file, a foreign field, or a directory with a camera file and its images.
        out: directory of the output, in the released layout.
        families: names of families; None: those of the paper.
        quality: name of a preset.
        class_id: directory name in place of a class.
        background: ``(3,)`` in 0..1 behind the object, of images without opacity.
        placement: where the object is, of sources that have a world of their own.
        resume: whether to keep what is finished and to continue what is not.
        device: where the training runs; the default device if left out.
        progress: receives what `FitJob`'s callback receives.

    Returns:
        family -> directory of the NeRF.

    Raises:
        ValueError, FileNotFoundError: an unknown family or quality; what reading the mesh or the images refuses; what
            `PhotometricFit` refuses; a fit that ends far below what the preset reaches.
    """
    architectures = [fit_architecture(family, quality) for family in families or paper_families()]
    settings = {each: preset(quality, each.family) for each in architectures}
    first = next(iter(settings.values()))
    views = ViewSettings(n_views=first.views, size=first.size)
    source = path_source(path, settings=views, background=background, class_id=class_id, placement=placement)
    errors: list[Exception] = []
    job = FitJob(
        out=out,
        settings=settings,
        device=device,
        resume=resume,
        least_psnr=least_psnr(quality),
        on_error=errors.append,
        progress=progress,
    )
    job.run([source])
    if errors:
        raise errors[0]
    return {each.family: nerf_directory(out, each, source.class_id, source.nerf_id) for each in settings}
