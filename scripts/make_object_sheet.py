"""Draws docs/procedural_objects.png: some procedural objects of each class.

Run from the repository root: python scripts/make_object_sheet.py --out docs/procedural_objects.png
"""

import argparse

import numpy as np
import torch

from gmn_encoder.extras import require
from gmn_encoder.objects import CLASS_NAMES, generate, render_views
from gmn_encoder.rendering.cameras import DEFAULT_DISTANCE, look_at, released_cameras


def main() -> None:
    parser = argparse.ArgumentParser(description="Contact sheet of procedural objects")
    parser.add_argument("--out", default="docs/procedural_objects.png")
    parser.add_argument("--per-class", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tile", type=int, default=96, help="side of one picture, pixels")
    options = parser.parse_args()

    image = require("PIL.Image", "objects")
    direction = torch.tensor([[0.6, -0.75, 0.42]])
    camera = released_cameras(look_at(DEFAULT_DISTANCE * direction / direction.norm()), size=options.tile)
    rows = []
    for name in CLASS_NAMES:
        seeds = range(options.first_seed, options.first_seed + options.per_class)
        views = [render_views(generate(name, seed).mesh, camera)[0] for seed in seeds]
        rows.append(np.concatenate(views, axis=1))
    sheet = np.concatenate(rows).astype(np.float32)
    opacity = sheet[..., 3:] / 255
    flat = np.rint(sheet[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    image.fromarray(flat).quantize(256).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
