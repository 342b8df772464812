"""Put together the NeRFs that ship, from directories that ``llana-gmn fit`` wrote.

python scripts/pack_default_nerfs.py --procedural DATA --real REAL --manifest MANIFEST.json --out llana_gmn/default/nerfs
"""

import argparse

from llana_gmn.packing import pack_nerfs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("procedural", "real", "manifest", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--per-class", type=int, default=2)
    given = vars(parser.parse_args())
    print(f"{len(pack_nerfs(given.pop('procedural'), given.pop('real'), **given))} objects in {given['out']}")


if __name__ == "__main__":
    main()
