"""Draw the losses of language training runs: training (mean of ten steps) and held out.

    python scripts/plot_training.py RUN... --out docs/language_loss.png

A RUN is the output of ``llana-gmn train``.
"""

import argparse

from llana_eval.representation.plots import save_figure
from llana_gmn.training.curves import loss_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out", default="docs/language_loss.png")
    arguments = parser.parse_args()
    save_figure(loss_figure(arguments.runs), arguments.out)


if __name__ == "__main__":
    main()
