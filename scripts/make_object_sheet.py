"""Launches `gmn_encoder.objects.sheet`: python scripts/make_object_sheet.py --help"""

from gmn_encoder.command_line import parse_arguments
from gmn_encoder.objects.sheet import draw_objects

if __name__ == "__main__":
    draw_objects(**parse_arguments(draw_objects))
