"""Launches `llana_eval.captioning.naming_benchmark`: python scripts/eval_language_baselines.py --help"""

import argparse
import logging

from gmn_encoder.files import write_json
from llana_eval.captioning import naming_benchmark
from llana_eval.captioning.class_naming import QUESTION, to_markdown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=naming_benchmark.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="directory of texts and NeRFs")
    parser.add_argument("--embeddings", nargs="*", default=[], metavar="FAMILY=FILE", help="files of llana-gmn embed")
    parser.add_argument("--families", nargs="*", help="to ask about (default: all); the nearest caption may be of any")
    parser.add_argument("--recipe", help="recipe of the run, for its embeddings and cache (default: the model's)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", help="JSON file for the accuracies and all captions")
    given = vars(parser.parse_args())
    model, data, out = given.pop("model"), given.pop("data"), given.pop("out")
    given["embeddings"] = dict(pair.split("=", 1) for pair in given["embeddings"])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = naming_benchmark.measure_naming(model, data, **given)
    print(f"Share of captions that name the class (%)\n\n{to_markdown(results)}")
    if out:
        write_json({"model": model, "question": given["question"], **results}, out)


if __name__ == "__main__":
    main()
