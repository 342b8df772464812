"""Launches `llana_gmn.training.curves`: python scripts/plot_training.py --help"""

from gmn_encoder.command_line import parse_arguments
from llana_gmn.training.curves import draw_losses

if __name__ == "__main__":
    draw_losses(**parse_arguments(draw_losses))
