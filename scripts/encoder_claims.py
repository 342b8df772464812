"""Launches `llana_eval.representation.claims`: python scripts/encoder_claims.py --help"""

import logging

from gmn_encoder.command_line import parse_arguments
from llana_eval.representation.claims import Claims, measure_claims

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tables = measure_claims(Claims(**parse_arguments(Claims)))
    print("\n".join(table.markdown() for table in tables))
