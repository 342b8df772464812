"""Draw some procedural objects of each class.

python scripts/make_object_sheet.py --out docs/procedural_objects.png
"""

import argparse

from gmn_encoder.objects.sheet import object_sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="docs/procedural_objects.png")
    parser.add_argument("--per-class", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tile", type=int, default=96, help="side of one picture, pixels")
    given = vars(parser.parse_args())
    out = given.pop("out")
    object_sheet(**given).quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main()
