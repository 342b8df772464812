"""Launches `gmn_encoder.fitting.training_set`: python scripts/make_training_set.py --help"""

from gmn_encoder.command_line import parse_arguments
from gmn_encoder.fitting.training_set import make_training_set

if __name__ == "__main__":
    print(make_training_set(**parse_arguments(make_training_set)))
