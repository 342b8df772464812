"""Launches `llana_eval.captioning.language_claims`: python scripts/language_claims.py --help"""

import logging

from gmn_encoder.command_line import parse_arguments
from llana_eval.captioning.language_claims import LanguageClaims, measure_language

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for table in measure_language(LanguageClaims(**parse_arguments(LanguageClaims))):
        print(table.markdown())
