"""Launches `llana_gmn.packing`: python scripts/pack_default_nerfs.py --help"""

from gmn_encoder.command_line import parse_arguments
from llana_gmn.packing import pack_nerfs

if __name__ == "__main__":
    pack_nerfs(**parse_arguments(pack_nerfs))
