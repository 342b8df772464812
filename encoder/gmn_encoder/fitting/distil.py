"""Foreign fields as sources of fits."""

from __future__ import annotations

from ..files import StrPath
from ..objects import ViewSettings
from .placement import PlacementRequest
from .sources import PosedImages


def read_foreign(
    path: StrPath,
    class_id: str,
    nerf_id: str,
    *,
    settings: ViewSettings | None = None,
    placement: PlacementRequest | None = None,
) -> PosedImages:
    """Views of a foreign field, its object found and brought into the box."""
    raise NotImplementedError
