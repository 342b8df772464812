"""The losses of training runs as a figure: training (mean of ten steps) and held out.

python scripts/plot_training.py RUN... --out docs/language_loss.png
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmn_encoder.extras import require
from gmn_encoder.files import StrPath, atomic_path

from .trainer import last_checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_losses(runs: Sequence[str], *, out: StrPath = "docs/language_loss.png") -> None:
    """Draw loss over steps.

    Args:
        runs: outputs of ``llana-gmn train``; the last checkpoint of each holds its curve.
        out: the PNG file.

    Raises:
        FileNotFoundError: a run without a checkpoint.
        ImportError: matplotlib is not installed.
    """
    figure = loss_figure(runs)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png")


def loss_figure(runs: Sequence[StrPath]) -> Figure:
    """The figure that `draw_losses` writes."""
    figure = require("matplotlib.figure", "eval").Figure(figsize=(6, 3.2), dpi=110)
    axes = figure.subplots()
    for number, run in enumerate(map(Path, runs)):
        checkpoint = last_checkpoint(run)
        if checkpoint is None:
            raise FileNotFoundError(f"{run}: has no checkpoint; name the output of llana-gmn train")
        history = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        for key, style, name in (("loss", "-", "training"), ("eval_loss", "o--", "held out")):
            points = [(each["step"], each[key]) for each in history if key in each]
            x, y = zip(*points, strict=True) if points else ((), ())
            axes.plot(x, y, style, color=f"C{number}", label=f"{run.name}, {name}", linewidth=1, markersize=4)
    axes.set(xlabel="step", ylabel="loss of answers (nats a token)")
    axes.legend()
    figure.tight_layout()
    return figure
