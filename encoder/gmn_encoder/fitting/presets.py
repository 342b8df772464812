"""Settings of a fit, and the presets ``nano``, ``quick``, ``standard`` and ``paper``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..nerfs.architectures import Family, family_class


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How NeRFs are trained; everything that changes the weights but source, architecture, seed and device.

    Attributes:
        iterations: optimiser steps.
        samples: samples on rays that a NeRF sees in an iteration, about: its number of rays follows from it.
        views, size: cameras around an object and side of their images, pixels (image folders have their own).
        steps_per_diagonal: marching steps in the diagonal of the box; the released renderer takes 1024.
        fine_from, fine_factor: from this share of the iterations on, steps are so many times shorter.
        learning_rate: the network's peak learning rate.
        encoding_rate: the peak learning rate of what stands beside the network, such as planes and tables.
        last_rate: share of the learning rates that is left at the end of their cosine.
        warmup: iterations over which the rates rise.
        frequencies: octaves of the frequency encoding that are trained; the columns of higher ones start at zero and stay there
            (a wave of octave k is 1.4 / 2^(k - 1) long: shorter than two pixels from k = 8 on). None: all, from random columns.
        refine_every: iterations from one look at the density to the next.
        grid_points: random points in each voxel at which the density is looked at for the grid that is written.
        measured_views: held-out views that the PSNR is measured on. None: all.
        empty_points, empty_weight: points outside the visual hull that are asked in an iteration, and what their opacity costs.
        share_initialisation: all NeRFs of a run start from the same weights.
    """

    iterations: int = 800
    samples: int = 8192
    views: int = 36
    size: int = 224
    steps_per_diagonal: int = 256
    fine_from: float = 0.75
    fine_factor: int = 2
    learning_rate: float = 5e-3
    encoding_rate: float = 2e-2
    last_rate: float = 0.03
    warmup: int = 50
    frequencies: int | None = 8
    refine_every: int = 64
    grid_points: int = 4
    measured_views: int | None = None
    empty_points: int = 256
    empty_weight: float = 0.02
    share_initialisation: bool = False

    def __post_init__(self) -> None:
        for name in (
            "iterations",
            "samples",
            "views",
            "size",
            "steps_per_diagonal",
            "fine_factor",
            "refine_every",
            "grid_points",
        ):
            _require(self, name, 1)
        for name in ("warmup", "empty_points"):
            _require(self, name, 0)
        for name in ("frequencies", "measured_views"):
            if getattr(self, name) is not None:
                _require(self, name, 1)
        for name in ("learning_rate", "encoding_rate", "last_rate", "fine_from", "empty_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} of a fit is {getattr(self, name)!r}; expected a number of at least 0")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _require(settings: FitSettings, name: str, least: int) -> None:
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} of a fit is {value!r}; expected an integer of at least {least}")


PRESETS = ("nano", "quick", "standard", "paper")

_BY_PRESET: dict[str, dict[str, Any]] = {
    # For the nano architectures: small views, coarse steps; one initialisation for all, which small encoders learn from sooner.
    "nano": {
        "iterations": 250,
        "samples": 768,
        "views": 24,
        "size": 64,
        "steps_per_diagonal": 96,
        "fine_factor": 1,
        "refine_every": 100,
        "measured_views": 1,
        "grid_points": 1,
        "empty_points": 128,
        "warmup": 20,
        "share_initialisation": True,
    },
    "quick": {"iterations": 800, "samples": 8192},
    "standard": {"iterations": 2500, "samples": 8192},
    "paper": {"iterations": 5000, "samples": 32768, "steps_per_diagonal": 512},
}


def preset(name: str, family: Family, **changes: Any) -> FitSettings:
    """The settings of a preset for a family, with `changes`; a family without `fit_rates` has those of `FitSettings`.

    Raises `ValueError` for an unknown name or family.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown quality {name!r}; expected one of {', '.join(PRESETS)}")
    return FitSettings(**{**family_class(family).fit_rates, **_BY_PRESET[name], **changes})
