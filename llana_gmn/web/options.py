"""What visitors may do, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PictureSizes:
    """Pixels of stills and of turntables, views of a turntable, and voxels of the grids that each is rendered from."""

    still: int = 128
    turn: int = 256
    views: int = 24
    still_voxels: int = 64
    turn_voxels: int = 128


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """What visitors may do.

    Attributes:
        max_upload: largest size of an upload, bytes.
        upload_memory: bytes of memory that an upload may take to be read or fitted.
        upload_seconds, fit_seconds: how long a NeRF may take to be read, and an object to be fitted.
        max_waiting: most questions that wait, most uploads, and most events of the page.
        visitor_waiting: most questions, or uploads, of one visitor that wait.
        fit_quality: preset of fits.
        sizes: of pictures.
        generation: options of `generate`.

    Raises:
        ValueError: a limit below 1.
    """

    max_upload: int = 64 << 20
    upload_memory: int = 1536 << 20
    upload_seconds: float = 20.0
    fit_seconds: float = 900.0
    max_waiting: int = 64
    visitor_waiting: int = 8
    fit_quality: str = "nano"
    sizes: PictureSizes = field(default_factory=PictureSizes)
    generation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = {
            "bytes": self.max_upload,
            "bytes of memory": self.upload_memory,
            "seconds": min(self.upload_seconds, self.fit_seconds),
            "waiting": min(self.max_waiting, self.visitor_waiting),
        }
        for what, limit in limits.items():
            if not limit >= 1:
                raise ValueError(f"uploads are limited to {limit} {what}; expected at least 1")
