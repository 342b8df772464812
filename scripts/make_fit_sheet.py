"""Draw contact sheets of fits, one a family: fitted views above true ones.

python scripts/make_fit_sheet.py DIRECTORY_OF_A_FIT --out docs
"""

import argparse
from pathlib import Path

from gmn_encoder.fitting.sheet import fit_sheets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fit")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--count", type=int, default=6)
    arguments = parser.parse_args()
    for family, sheet in fit_sheets(arguments.fit, count=arguments.count).items():
        sheet.quantize(128).save(arguments.out / f"fit_{family}.png", optimize=True)


if __name__ == "__main__":
    main()
