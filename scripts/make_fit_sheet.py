"""Contact sheets of fits: previews (fitted views above true ones) of one family side by side.

python scripts/make_fit_sheet.py DIRECTORY_OF_A_FIT --out docs
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from gmn_encoder.rendering.images import contact_sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fit", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--count", type=int, default=6)
    arguments = parser.parse_args()
    for family in ("mlp", "triplane", "hash"):
        files = sorted((arguments.fit / family).glob("*/*/preview.png"))[: arguments.count]
        if files:
            sheet = contact_sheet([Image.open(file).convert("RGB") for file in files], columns=min(2, len(files)))
            sheet.quantize(128).save(arguments.out / f"fit_{family}.png", optimize=True)


if __name__ == "__main__":
    main()
