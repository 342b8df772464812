"""Views that took a while to make, kept while fits to them are not finished: one file, read back whole or not at all.

A foreign field is searched for its object and rendered before anything is fitted to it. A run that was killed meanwhile, or
between two families, goes on with the same views.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_tensors, write_pth_content
from ..rendering.cameras import Cameras
from ..rendering.occupancy import OccupancyGrid
from .placement import Placement
from .posed_images import PosedImages

FORMAT = 1

_CAMERAS = ("camera_to_world", "focal", "principal_point", "width", "height", "image_names")
_PLACEMENT = ("center", "scale", "up", "found_by")

logger = logging.getLogger(__name__)


def write_views(posed: PosedImages, file: Path) -> None:
    """Keep views of pinhole cameras without masks, as `read_foreign` makes them. A disk that does not take them is a warning."""
    placement = posed.placement
    content = {
        "format": FORMAT,
        "ids": [posed.class_id, posed.nerf_id, posed.source],
        "images": posed.images,
        "cameras": {name: getattr(posed.cameras, name) for name in _CAMERAS},
        "held_out": posed.held_out,
        "held_out_cameras": {name: getattr(posed.held_out_cameras, name) for name in _CAMERAS},
        "notes": list(posed.notes),
        "placement": None if placement is None else {name: getattr(placement, name) for name in _PLACEMENT},
        "region": None if posed.region is None else posed.region.binary,
    }
    try:
        write_pth_content(content, file)
    except OSError as error:
        logger.warning("the views are not kept: %s", error)


def read_views(file: Path) -> PosedImages | None:
    """The views in a file of `write_views`; None where there is none, or none that can be read."""
    if not file.is_file():
        return None
    try:
        content, _ = read_tensors(file)
        if content["format"] != FORMAT:
            return None
        placement, region = content["placement"], content["region"]
        class_id, nerf_id, source = content["ids"]
        return PosedImages(
            class_id,
            nerf_id,
            source,
            content["images"],
            _cameras(content["cameras"]),
            content["held_out"],
            _cameras(content["held_out_cameras"]),
            notes=tuple(content["notes"]),
            placement=None if placement is None else Placement(**placement),
            region=None if region is None else OccupancyGrid(region),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: cannot be continued from (%s): the views are made again", file, error)
        return None


def _cameras(content: Mapping[str, Any]) -> Cameras:
    return Cameras(**{**content, "image_names": tuple(content["image_names"])})
