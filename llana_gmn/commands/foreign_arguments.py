"""Arguments about radiance fields of other programs: where the object is, and where their fits are kept."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .base import InputErrors, stage_progress

if TYPE_CHECKING:
    from gmn_encoder.fitting.fit_cache import FitCache
    from gmn_encoder.fitting.placement import PlacementRequest, Vector

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def add_placement_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--center", metavar="X,Y,Z", help="the middle of the object in the source's own world (default: found)"
    )
    parser.add_argument(
        "--scale",
        type=float,
        metavar="S",
        help="world units for each unit of the source; the box is 1.4 (default: found)",
    )
    parser.add_argument(
        "--up",
        metavar="AXIS",
        help="what points up in the source: z, -y, ... or X,Y,Z (default: as its program has it)",
    )


def placement_request(arguments: argparse.Namespace) -> PlacementRequest:
    """What `add_placement_arguments` were given. Raises `ValueError` for what is no point, number or direction."""
    from gmn_encoder.fitting.placement import PlacementRequest

    center = _vector("--center", arguments.center) if arguments.center else None
    up = None
    if arguments.up:
        text = arguments.up.strip().lower()
        axis = _AXES.get(text.lstrip("+-"))
        up = _vector("--up", arguments.up) if axis is None else axis
        if axis is not None and text.startswith("-"):
            up = (-axis[0], -axis[1], -axis[2])
    return PlacementRequest(center=center, scale=arguments.scale, up=up)


def _vector(name: str, text: str) -> Vector:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name} is {text!r}; expected three numbers as in 0,0,1") from None
    return x, y, z


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """``--cache`` and ``--fit-quality``, of commands that take radiance fields of other programs as NeRFs."""
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="where NeRFs fitted to radiance fields of other programs are kept (default: the user's cache directory)",
    )
    parser.add_argument(
        "--fit-quality",
        default="nano",
        metavar="QUALITY",
        help="preset of these fits: nano, quick, standard (default: nano, which the model that ships knows)",
    )


def fit_cache(arguments: argparse.Namespace) -> FitCache:
    """The cache that `add_cache_arguments` name. Raises `ValueError` for an unknown quality."""
    from gmn_encoder.fitting.fit_cache import FitCache
    from gmn_encoder.fitting.presets import PRESETS

    if arguments.fit_quality not in PRESETS:
        raise ValueError(f"--fit-quality is {arguments.fit_quality!r}; expected one of {', '.join(PRESETS)}")
    return FitCache(arguments.cache, quality=arguments.fit_quality)


def open_foreign(paths: Iterable[str], arguments: argparse.Namespace, errors: InputErrors | None = None) -> list[str]:
    """The paths, those of radiance fields of other programs in place of the NeRFs that are fitted to them, once.

    Fields that cannot be fitted are reported to `errors` and left out; without it they raise `ValueError` or `OSError`.
    """
    cache, opened = fit_cache(arguments), []
    for path in paths:
        try:
            with stage_progress(one_line=True) as progress:
                cache.progress = progress
                opened.append(str(cache.opened(path)))
        except (ValueError, OSError) as error:
            if errors is None:
                raise
            errors.add(error)
    return opened
