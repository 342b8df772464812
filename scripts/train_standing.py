"""Launches `gmn_encoder.objects.standing_training`: python scripts/train_standing.py --help"""

from gmn_encoder.command_line import parse_arguments
from gmn_encoder.objects.standing_training import train_standing

if __name__ == "__main__":
    print(train_standing(**parse_arguments(train_standing)), end="")
