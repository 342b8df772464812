"""Launches `llana_eval.captioning.calibrating`: python scripts/calibrate_model.py --help"""

import logging

from gmn_encoder.command_line import parse_arguments
from llana_eval.captioning.calibrating import Calibration, calibrate

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(calibrate(Calibration(**parse_arguments(Calibration))).markdown())
