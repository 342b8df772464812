"""Launches `llana_eval.representation.pose_claims`: python scripts/pose_claims.py --help"""

import logging

from gmn_encoder.command_line import parse_arguments
from llana_eval.representation.pose_claims import PoseClaims, measure_pose_claims

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(
        "\n\n".join(
            table.markdown() for table in measure_pose_claims(PoseClaims(**parse_arguments(PoseClaims))).values()
        )
    )
