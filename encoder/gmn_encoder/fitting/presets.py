"""Settings of a fit, and the presets ``nano``, ``quick``, ``standard`` and ``paper``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..nerfs.architectures import Family, family_class
from ..settings import Settings, require_integers, require_numbers


@dataclass(frozen=True, kw_only=True)
class FitSettings(Settings):
    """How NeRFs are trained; everything that changes the weights but source, architecture, seed and device.

    Attributes:
        iterations: optimiser steps.
        samples: samples on rays that a NeRF sees in an iteration, about: its number of rays follows from it.
        views, size: cameras around an object and side of their images, pixels (image folders have their own).
        steps_per_diagonal: marching steps in the diagonal of the box; the released renderer takes 1024.
        fine_from: share of the iterations after which marching steps are shorter.
        fine_factor: how many times shorter they are then.
        learning_rate: the network's peak learning rate.
        encoding_rate: the peak learning rate of what stands beside the network, such as planes and tables.
        last_rate: share of the peak learning rates that is left at the end of their cosine.
        warmup: iterations over which the rates rise.
        frequencies: octaves of the frequency encoding that are trained; the columns of higher ones start at zero and stay there
            (a wave of octave k is 1.4 / 2^(k - 1) long: shorter than two pixels from k = 8 on). None: all, from random columns.
        refine_every: iterations between evaluations of the density for the occupancy grid.
        grid_points: random points in each voxel at which the density is evaluated for the grid that is written.
        measured_views: held-out views that the PSNR is measured on. None: all.
        empty_points: points outside the visual hull that are queried in an iteration.
        empty_weight: weight of their opacity in the loss.
        share_initialisation: whether all NeRFs of a run start from the same weights.
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
        require_integers(self, 1, "iterations", "samples", "views", "size", "steps_per_diagonal", "fine_factor")
        require_integers(self, 1, "refine_every", "grid_points", "frequencies", "measured_views")
        require_integers(self, 0, "warmup", "empty_points")
        require_numbers(self, 0, "learning_rate", "encoding_rate", "last_rate", "fine_from", "empty_weight")


PRESETS = ("nano", "quick", "standard", "paper")

_BY_PRESET: dict[str, dict[str, Any]] = {
    # For the nano architectures: small views, coarse steps.
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
