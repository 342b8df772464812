"""NeRFs of foreign fields, fitted once: kept by the content of what was fitted and by how.

    <directory>/<key>/<family>/own/<name>/     the directory of a fit; a killed one continues

A file that was moved or copied is known already; one that changed in the same place is fitted anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch

from ..files import StrPath, file_digest
from ..nerfs.families import DEFAULT_FAMILY
from ..nerfs.importers import Contents, find_importer
from ..progress import Progress, no_progress
from .output import is_complete, nerf_directory
from .placement import PlacementRequest
from .presets import preset
from .single import OWN_CLASS, fit_architecture, fit_object
from .sources import source_ids

_VERSION = 1  # of what decides a fit besides its settings


def default_cache() -> Path:
    """``llana-gmn/fits`` in the user's cache directory, which ``XDG_CACHE_HOME`` names."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llana-gmn", "fits")


class FitCache:
    """Fits of foreign fields in a directory.

    Args:
        directory: the cache, made where it is not there; None: `default_cache`.
        family, quality: what fields are fitted as, and the name of the preset.
        placement: what the user says about where objects are.
        device: where fits run; the default device if left out.
        progress: receives what a fit does.
    """

    def __init__(
        self,
        directory: StrPath | None = None,
        *,
        family: str = DEFAULT_FAMILY,
        quality: str = "nano",
        placement: PlacementRequest | None = None,
        device: torch.device | str | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.directory = Path(directory) if directory is not None else default_cache()
        self.architecture, self.quality = fit_architecture(family, quality), quality
        self.placement, self.device, self.progress = placement, device, progress

    def place(self, path: StrPath) -> Path:
        """The directory of a field's fit, whether it is there or not."""
        about = {
            "version": _VERSION,
            "content": content_of(path),
            "architecture": self.architecture.to_dict(),
            "settings": preset(self.quality, self.architecture.family).to_dict(),
            "placement": str(self.placement),
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        return nerf_directory(self.directory / key, self.architecture, *source_ids(Path(path), OWN_CLASS))

    def nerf(self, path: StrPath) -> Path:
        """The directory of a field's NeRF, fitted now unless it was before. Raises what `fit_object` raises."""
        directory = self.place(path)
        if not is_complete(directory):
            fit_object(
                path,
                self.directory / directory.relative_to(self.directory).parts[0],
                families=[self.architecture.family],
                quality=self.quality,
                placement=self.placement,
                device=self.device,
                resume=True,
                progress=self.progress,
            )
        return directory

    def opened(self, path: StrPath) -> StrPath:
        """The path itself, or, of a foreign field, that of its NeRF. Raises what `nerf` and `find_importer` raise."""
        if not os.path.exists(path) or find_importer(path) is None:
            return path
        return self.nerf(path)


def content_of(path: StrPath) -> str:
    """A digest of all that an importer may read of a foreign field: its file, or files of a run, and settings beside it."""
    path = Contents(path).path
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    if path.is_file():
        for directory in (path.absolute().parent, path.absolute().parent.parent):
            for pattern in ("*config*.y*ml", "args.txt", "config.txt", "dataparser_transforms.json"):
                files += sorted(directory.glob(pattern))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name if path.is_file() else file.relative_to(path)}\0{file_digest(file)}\0".encode())
    return digest.hexdigest()
