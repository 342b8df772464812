"""Launches `llana_eval.captioning.user_objects`: python scripts/user_objects.py --help"""

from gmn_encoder.command_line import parse_arguments
from llana_eval.captioning.user_objects import UserObjects, ask_about_objects

if __name__ == "__main__":
    print(ask_about_objects(UserObjects(**parse_arguments(UserObjects))).markdown())
