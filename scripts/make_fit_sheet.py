"""Launches `gmn_encoder.fitting.sheet`: python scripts/make_fit_sheet.py --help"""

from gmn_encoder.command_line import parse_arguments
from gmn_encoder.fitting.sheet import draw_fits

if __name__ == "__main__":
    draw_fits(**parse_arguments(draw_fits))
