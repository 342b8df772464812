"""Draw the losses of language training runs: training (mean of ten steps) and held out.

    python scripts/plot_training.py RUN... --out docs/language_loss.png

A RUN is the output of ``llana-gmn train``; its last checkpoint holds the curve.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gmn_encoder.extras import require
from gmn_encoder.files import atomic_path
from llana_gmn.training.trainer import last_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path("docs/language_loss.png"))
    arguments = parser.parse_args()
    pyplot = require("matplotlib.pyplot", "eval")
    figure, axes = pyplot.subplots(figsize=(6, 3.2), dpi=110)
    for number, run in enumerate(arguments.runs):
        checkpoint = last_checkpoint(run)
        if checkpoint is None:
            parser.error(f"{run}: has no checkpoint; name the output of llana-gmn train")
        history = json.loads((Path(checkpoint) / "trainer_state.json").read_text())["log_history"]
        for key, style in (("loss", "-"), ("eval_loss", "o--")):
            points = [(each["step"], each[key]) for each in history if key in each]
            label = f"{run.name}, {'training' if key == 'loss' else 'held out'}"
            axes.plot(*zip(*points, strict=True), style, color=f"C{number}", label=label, linewidth=1, markersize=4)
    axes.set(xlabel="step", ylabel="loss of answers (nats a token)")
    axes.legend()
    figure.tight_layout()
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    main()
