"""NeRFs of what a user has in place of NeRFs (foreign fields, image folders, meshes), fitted once: kept by the content of what
was fitted to, and by how.

    <directory>/<key>/<family>/own/<name>/     the directory of a fit; a killed one continues
    <directory>/digests.json                   of the files that were looked at

A source that was moved or copied, under its name, is known already; one that changed in the same place is fitted anew. Several
processes may share a cache: one fits a source, the others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..digests import DIGESTS_NAME, Digests, digest_of
from ..files import StrPath, read_json
from ..locks import output_lock
from ..nerfs.architectures import NerfArchitecture
from ..nerfs.families import DEFAULT_FAMILY
from ..progress import Progress, no_progress
from .inputs import content_of
from .output import FIT_NAME, is_complete, nerf_directory
from .placement import PlacementRequest
from .presets import preset
from .single import OWN_CLASS, fit_architecture, fit_object
from .sources import is_source, source_ids

_VERSION = 3  # of what decides a fit besides its settings


def default_cache() -> Path:
    """``llana-gmn/fits`` in the user's cache directory, which ``XDG_CACHE_HOME`` names."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llana-gmn", "fits")


class FitCache:
    """Fits in a directory.

    Args:
        directory: the cache, made where it is not there; None: `default_cache`.
        families: names of the families that sources are fitted in.
        quality: name of the preset.
        background: ``(3,)`` in 0..1 behind the object, of images without opacity.
        placement: what the user says about where objects are.
        device: where fits run; the default device if left out.
        progress: receives what a fit does.

    Raises:
        ValueError: an unknown family or quality.
    """

    def __init__(
        self,
        directory: StrPath | None = None,
        *,
        families: Sequence[str] = (DEFAULT_FAMILY,),
        quality: str = "nano",
        background: Tensor | None = None,
        placement: PlacementRequest | None = None,
        device: torch.device | str | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.directory = Path(directory) if directory is not None else default_cache()
        self.architectures = [fit_architecture(family, quality) for family in families]
        self.quality, self.background, self.placement = quality, background, placement
        self.device, self.progress = device, progress

    def places(self, path: StrPath) -> dict[str, Path]:
        """Family -> the directory of a source's fit, whether it is there or not. Raises `OSError` for what cannot be read."""
        digests = Digests(self.directory / DIGESTS_NAME)
        about = {
            "version": _VERSION,
            "content": content_of(Path(path), digests),
            "quality": self.quality,
            "background": self.background,
            "placement": self.placement,
        }
        digests.save()
        out, ids = self.directory / digest_of(about)[:32], source_ids(Path(path), OWN_CLASS)
        return {each.family: nerf_directory(out, each, *ids) for each in self.architectures}

    def nerfs(self, path: StrPath) -> dict[str, Path]:
        """Family -> the directory of a source's NeRF, fitted now unless it was before. Raises what `fit_object` raises."""
        places = self.places(path)
        if self._missing(places):
            out = self.directory / next(iter(places.values())).relative_to(self.directory).parts[0]
            with output_lock(out, wait=True):
                if missing := self._missing(places):
                    fit_object(
                        path,
                        out,
                        families=missing,
                        quality=self.quality,
                        background=self.background,
                        placement=self.placement,
                        device=self.device,
                        resume=True,
                        progress=self.progress,
                    )
        return places

    def opened(self, path: StrPath) -> Path:
        """The path itself, or, where there is something to fit to at it, that of its NeRF in the first family.

        Raises what `nerfs` raises.
        """
        return next(iter(self.nerfs(path).values())) if is_source(path) else Path(path)

    def _missing(self, places: dict[str, Path]) -> list[str]:
        return [each.family for each in self.architectures if not self._is_there(each, places[each.family])]

    def _is_there(self, architecture: NerfArchitecture, directory: Path) -> bool:
        if not is_complete(directory):
            return False
        settings = preset(self.quality, architecture.family)  # a preset may have changed since
        try:
            return read_json(directory / FIT_NAME).get("settings") == settings.to_dict()
        except (OSError, ValueError, AttributeError):
            return False
