"""Launches `llana_gmn.default.packing`: python scripts/pack_default_nerfs.py --help"""

from gmn_encoder.command_line import parse_arguments
from llana_gmn.default.packing import pack_nerfs

if __name__ == "__main__":
    pack_nerfs(**parse_arguments(pack_nerfs))
