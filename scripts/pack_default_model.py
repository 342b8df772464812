"""Launches `llana_gmn.default.model_packing`: python scripts/pack_default_model.py --help"""

from gmn_encoder.command_line import parse_arguments
from llana_gmn.default.model_packing import pack_model

if __name__ == "__main__":
    print(f"{pack_model(**parse_arguments(pack_model)) / 1e6:.1f} MB")
