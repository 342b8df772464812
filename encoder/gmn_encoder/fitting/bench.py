"""Fits of real meshes: held-out PSNR and seconds per NeRF, for each architecture.

    python scripts/bench_fit.py DIRECTORY_OF_MESHES --quality quick --count 5 --out benchmarks/results
    python scripts/bench_fit.py procedural:3

DIRECTORY_OF_MESHES has one directory per class. The sample is a seeded choice: classes in shuffled order, one mesh of each by
turns. Seconds hold hull and training, not the views (a few seconds an object) and the measurement.
Every finished NeRF is kept in --work and not fitted again.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from .. import benchmarking
from ..files import StrPath
from ..nerfs.architectures import parse_architecture
from ..objects import ViewSettings
from ..objects.mesh_files import EXTENSIONS
from .job import FitJob
from .presets import preset
from .sources import Source, find_sources

TINY: dict[str, Any] = {
    "meshes": "procedural:1",
    "quality": "nano",
    "architectures": "MLP-nano",
    "views": ViewSettings(n_views=4, size=32),
    "iterations": 20,
}

_COLUMNS = {
    "architecture": "",
    "preset": "",
    "objects": "",
    "PSNR mean": ".2f",
    "5th percentile": ".2f",
    "seconds per NeRF": ".1f",
    "CPU seconds": ".1f",
}
_KEPT = ("name", "psnr", "psnr_each", "seconds", "cpu_seconds", "nerfs_at_once")


def bench(
    meshes: str,
    *,
    quality: str = "quick",
    architectures: str = "HASH,MLP,TRI",
    count: int = 5,
    seed: int = 0,
    batch: int = 1,
    seconds: float = float("inf"),
    work: StrPath | None = None,
    views: ViewSettings | None = None,
    iterations: int | None = None,
    device: torch.device | str | None = None,
) -> Iterator[benchmarking.Result]:
    """Fits of some objects in some architectures.

    Args:
        meshes: a directory with one directory of meshes per class, or ``procedural:N``.
        quality: the preset.
        architectures: names, separated by commas.
        count: number of objects.
        seed: the seed of the choice of objects, of the views and of the fits.
        batch: NeRFs fitted at once.
        seconds: time after which no other object is begun.
        work: directory of the NeRFs; None for a temporary one.
        views: number and size of the views; None for 36 of 224 x 224 whatever the preset.
        iterations: optimiser steps; None for the preset's.
        device: where to fit; None for the accelerator if there is one.

    Yields:
        a result after each batch of objects.
    """
    device = benchmarking.pick_device(device)
    views = views or ViewSettings(seed=seed)
    changes = {} if iterations is None else {"iterations": iterations}
    parsed = [parse_architecture(name) for name in architectures.split(",")]
    settings = {each: preset(quality, each.family, **changes) for each in parsed}
    chosen = choose_sources(meshes, count, seed=seed, views=views)
    records: list[Mapping[str, Any]] = []
    failed: list[str] = []
    about = benchmarking.about_run(device, quality=quality, seed=seed, batch=batch)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        job = FitJob(
            out=work or temporary,
            settings=settings,
            seed=seed,
            batch=batch,
            device=device,
            on_done=lambda source, architecture, record: records.append(record),
            on_skip=lambda source, architecture, record: records.append(record),
            on_error=lambda error: failed.append(str(error)),
        )
        for start in range(0, len(chosen), batch):
            if time.perf_counter() - started > seconds:
                break
            job.run(chosen[start : start + batch])
            rows = summary(records)
            figures = {
                "sample": f"{count} objects asked for, a seeded choice over classes",
                "settings": {each.name: value.to_dict() for each, value in settings.items()},
                "summary": rows,
                "failed": failed,
                "nerfs": [
                    {key: record[key] for key in _KEPT} | {"object": "/".join(Path(record["source"]).parts[-2:])}
                    for record in records
                ],
            }
            cells = [[name, quality, *rest] for name, *rest in (row.values() for row in rows)]
            text = benchmarking.markdown_table(_COLUMNS, cells)
            yield benchmarking.Result(
                what="fit", variant=quality, title="Fits", about=about, figures=figures, text=text
            )


def choose_sources(meshes: str, count: int, *, seed: int, views: ViewSettings) -> list[Source]:
    """`count` objects: the first of ``procedural:N``, or meshes of a directory, one of each class by turns."""
    if meshes.startswith("procedural:"):
        return list(find_sources(meshes, settings=views))[:count]
    dice = random.Random(seed)
    classes = sorted(child for child in Path(meshes).iterdir() if child.is_dir() and child.name != "other")
    members = [sorted(file for file in each.iterdir() if file.suffix.lower() in EXTENSIONS) for each in classes]
    for files in members:
        dice.shuffle(files)
    dice.shuffle(members)
    turns = range(max(map(len, members), default=0))
    chosen = [files[turn] for turn in turns for files in members if turn < len(files)][:count]
    return [source for file in chosen for source in find_sources(str(file), settings=views)]


def summary(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each architecture's number of objects, PSNR in dB (mean, 5th percentile) and seconds per NeRF (wall, CPU)."""
    rows = []
    for name in dict.fromkeys(record["name"] for record in records):
        each = [record for record in records if record["name"] == name]
        psnr = [record["psnr"] for record in each]
        rows.append(
            {
                "architecture": name,
                "objects": len(each),
                "psnr_mean": mean(psnr),
                "psnr_5th_percentile": float(np.percentile(psnr, 5)),
                "seconds_per_nerf": mean(record["seconds"] for record in each),
                "cpu_seconds_per_nerf": mean(record["cpu_seconds"] for record in each),
            }
        )
    return rows


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)
