"""A contact sheet of procedural objects.

python scripts/make_object_sheet.py --out docs/procedural_objects.png
"""

from __future__ import annotations

import torch
from PIL import Image

from ..files import StrPath, atomic_path
from ..rendering.cameras import DEFAULT_DISTANCE, look_at, released_cameras
from ..rendering.images import contact_sheet
from .procedural import CLASS_NAMES, generate
from .views import render_views

_DIRECTION = (0.6, -0.75, 0.42)


def draw_objects(
    *, out: StrPath = "docs/procedural_objects.png", per_class: int = 8, first_seed: int = 0, tile: int = 96
) -> None:
    """Draw some objects of each class over white, a class a row.

    Args:
        out: the PNG file.
        per_class: number of objects of each class.
        first_seed: the seed of the first one; the others follow.
        tile: side of one picture, pixels.
    """
    direction = torch.tensor([_DIRECTION])
    camera = released_cameras(look_at(DEFAULT_DISTANCE * direction / direction.norm()), size=tile)
    white = Image.new("RGBA", (tile, tile), "white")
    views = [
        Image.fromarray(render_views(generate(name, first_seed + i).mesh, camera)[0])
        for name in CLASS_NAMES
        for i in range(per_class)
    ]
    sheet = contact_sheet([Image.alpha_composite(white, view).convert("RGB") for view in views], columns=per_class)
    with atomic_path(out) as temporary:
        sheet.quantize(256).save(temporary, format="PNG", optimize=True)
