"""NeRFs of the test objects that no encoder is trained on: other architectures, and second first weights."""

from __future__ import annotations

from pathlib import Path

from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.output import split_of
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.sources import find_sources
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES, NerfArchitecture, parse_architecture
from gmn_encoder.objects import ViewSettings

CHANGES = {
    "MLP-nano": {"1L": {"hidden_layers": 1}, "16H": {"hidden_dim": 16}},
    "TRI-nano": {
        "1L": {"hidden_layers": 1}, "16H": {"hidden_dim": 16}, "8W": {"resolution": 8}, "2C": {"channels": 2},
    },
    "HASH-nano": {
        "1L": {"hidden_layers": 1}, "16H": {"hidden_dim": 16}, "2N": {"levels": 2}, "8T": {"log2_table_size": 8},
    },
}  # fmt: skip
"""What the paper's ten unseen architectures change (Table 14), made smaller as the nano ones are."""


def unseen_architectures() -> dict[str, NerfArchitecture]:
    """Name -> architecture: fewer layers, narrower ones, smaller planes, fewer channels, levels and entries."""
    return {
        name.replace("nano", suffix): parse_architecture({**NANO_ARCHITECTURES[name].to_dict(), **change})
        for name, changes in CHANGES.items()
        for suffix, change in changes.items()
    }


def fit_unseen(out: Path, objects: int, *, batch: int = 13) -> None:
    """Fit the test objects of ``procedural:<objects>`` into ``out/NAME`` for every name; what is there is not made again.

    Args:
        out: the directory.
        objects: the N of ``procedural:N`` that the other NeRFs of these objects were fitted from.
        batch: NeRFs that are fitted at once.
    """
    jobs = [*unseen_architectures().items(), ("start2", NANO_ARCHITECTURES["MLP-nano"])]
    for name, architecture in jobs:
        settings = preset("nano", architecture.family)
        views = ViewSettings(n_views=settings.views, size=settings.size)
        sources = [
            each
            for each in find_sources(f"procedural:{objects}", settings=views)
            if split_of(each.index or 0) == "test"
        ]
        seed = 1 if name == "start2" else 0  # first weights follow from it
        FitJob(out=out / name, settings={architecture: settings}, batch=batch, seed=seed).run(sources)
