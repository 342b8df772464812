"""Launches `llana_eval.representation.claims`, which says how the data is made: python scripts/encoder_claims.py --help"""

import argparse
import logging
from pathlib import Path

from llana_eval.representation import claims
from llana_eval.representation.classifier import ClassifierOptions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=claims.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="NeRFs of objects that other people made")
    parser.add_argument("--runs", type=Path, required=True, help="holds the encoders: r/best, rc/best, c/best")
    parser.add_argument("--losses", type=lambda text: text.split(","), help="names of the runs (default: r,rc,c)")
    parser.add_argument("--objects", type=int, help="N of procedural:N, for unseen architectures (default: without)")
    parser.add_argument("--batch", type=int, help="NeRFs of unseen architectures fitted at once (default: 13)")
    parser.add_argument("--work", type=Path, required=True, help="where embeddings, NeRFs and classifiers are kept")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of tables and pictures (default: docs)")
    parser.add_argument("--epochs", type=int, default=150, help="of the classifiers (default: 150)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of the classifiers (default: 1e-3)")
    parser.add_argument("--batch-size", type=int, default=64, help="of the classifiers (default: 64)")
    given = vars(parser.parse_args())
    options = ClassifierOptions(**{name: given.pop(name) for name in ("epochs", "learning_rate", "batch_size")})
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tables = claims.measure_claims(claims.Claims(classifier=options, **given))
    print("\n".join(table.markdown() for table in tables.values()))


if __name__ == "__main__":
    main()
