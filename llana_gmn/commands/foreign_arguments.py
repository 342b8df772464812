"""Arguments about what NeRFs are fitted to: where the object is, and where fits are kept that stand in for what was given."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import InputErrors, stage_progress

if TYPE_CHECKING:
    from accelerate import PartialState

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
        help="what points up in the source: z, -y, ... or X,Y,Z; of meshes y or z (default: as its program or format has it)",
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
    """``--cache`` and ``--fit-quality``, of commands that take what NeRFs can be fitted to in place of NeRFs."""
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="where NeRFs fitted to meshes, image folders and fields of other programs are kept "
        "(default: the user's cache directory)",
    )
    parser.add_argument(
        "--fit-quality",
        default="nano",
        metavar="QUALITY",
        help="preset of these fits: nano, quick, standard (default: nano, which the model that ships knows)",
    )


def fit_cache(arguments: argparse.Namespace, **options: Any) -> FitCache:
    """The cache that `add_cache_arguments` name. Raises `ValueError` for an unknown quality.

    Args:
        options: of `FitCache`.
    """
    from gmn_encoder.fitting.fit_cache import FitCache
    from gmn_encoder.fitting.presets import PRESETS

    if arguments.fit_quality not in PRESETS:
        raise ValueError(f"--fit-quality is {arguments.fit_quality!r}; expected one of {', '.join(PRESETS)}")
    return FitCache(arguments.cache, quality=arguments.fit_quality, **options)


@dataclass(frozen=True)
class OpenedNerf:
    """A NeRF, or a directory of them, that was given on the command line.

    Attributes:
        name: what the user calls it.
        path: where it is read: the same, or a NeRF that was fitted to what has that name.
    """

    name: str
    path: str

    def renamed(self, error: Exception) -> Exception:
        """What an error about the path says about the name."""
        from gmn_encoder.nerfs.files import renamed

        return error if self.path == self.name else ValueError(renamed(str(error), self.path, self.name))


def open_nerfs_once(
    paths: Iterable[str], arguments: argparse.Namespace, errors: InputErrors, state: PartialState
) -> list[OpenedNerf]:
    """`open_nerfs` of several processes: the main one fits and reports, all get what it has."""
    from accelerate.utils import broadcast_object_list

    fit_cache(arguments)  # what is wrong with it is an error in all of them
    found = [open_nerfs(paths, arguments, errors) if state.is_main_process else []]
    broadcast_object_list(found)
    return found[0]


def open_nerfs(paths: Iterable[str], arguments: argparse.Namespace, errors: InputErrors) -> list[OpenedNerf]:
    """What paths mean that are given in place of NeRFs: image folders, meshes and fields of other programs become the NeRFs that
    are fitted to them, once; a directory without a NeRF becomes what it holds of these; all else stays as it is.

    What cannot be fitted to is reported to `errors` and left out.
    """
    cache, opened = fit_cache(arguments), []
    for given in paths:
        try:
            members = _members(given)
        except (ValueError, OSError) as error:
            errors.add(error)
            continue
        for path in members:
            try:
                opened.append(OpenedNerf(path, _opened(cache, path)))
            except (ValueError, OSError, ImportError) as error:
                errors.add(error)
    return opened


def open_nerf(path: str, arguments: argparse.Namespace) -> OpenedNerf:
    """`open_nerfs` of one, which must be there. Raises `ValueError`, `OSError` or `ImportError`."""
    return OpenedNerf(path, _opened(fit_cache(arguments), path))


def _opened(cache: FitCache, path: str) -> str:
    with stage_progress(one_line=True) as progress:
        cache.progress = progress
        return str(cache.opened(path))


def _members(given: str) -> list[str]:
    """The sources below a directory without a NeRF; else the path itself."""
    from gmn_encoder.fitting.sources import is_source, sources_below
    from gmn_encoder.nerfs.files import find_nerfs, is_nerf_directory

    path = Path(given)
    if not path.is_dir() or is_nerf_directory(path) or is_source(path) or next(find_nerfs(path)) != path:
        return [given]
    return [str(each) for each in sources_below(path)] or [given]
