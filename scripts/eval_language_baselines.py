"""Launches `llana_eval.captioning.naming_benchmark`: python scripts/eval_language_baselines.py --help"""

import logging

from gmn_encoder.command_line import parse_arguments
from llana_eval.captioning.class_naming import to_markdown
from llana_eval.captioning.naming_benchmark import measure_naming

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(to_markdown(measure_naming(**parse_arguments(measure_naming))))
