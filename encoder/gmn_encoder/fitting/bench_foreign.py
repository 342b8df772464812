"""Fits of foreign fields: how far they agree with the field itself, from views that neither training nor fit saw.

    python scripts/bench_foreign.py chair.ckpt,guitar.splat --quality quick --sheets sheets

Views of the source are rendered by its own rule, over white. Seconds are of the processor: finding the object, rendering views
to fit to, and the fit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .. import benchmarking
from ..files import StrPath, atomic_path
from ..nerfs.files import load_nerf
from ..nerfs.importers import import_field
from ..objects import ViewSettings
from ..rendering.images import contact_sheet, rgba_over
from ..rendering.occupancy import GRID_NAME, read_occupancy
from .distil import take_views, views_of
from .distil_object import find_object
from .job import FitJob
from .measure import held_out_psnr
from .output import nerf_directory
from .presets import preset
from .single import OWN_CLASS, fit_architecture
from .sources import Source, source_ids

_OTHER_SEED = 4711

_COLUMNS = {
    "source": "",
    "kind": "",
    "held-out views": ".1f",
    "other views": ".1f",
    "lowest": ".1f",
    "highest": ".1f",
    "finding": ".0f",
    "views": ".0f",
    "fit": ".0f",
}


def bench(
    sources: str,
    *,
    quality: str = "quick",
    family: str = "hash",
    views: int = 8,
    size: int | None = None,
    iterations: int | None = None,
    seed: int = 0,
    work: StrPath | None = None,
    sheets: StrPath | None = None,
    device: torch.device | str | None = None,
) -> Iterator[benchmarking.Result]:
    """Fits of some fields, and their agreement with the fields.

    Args:
        sources: the fields, separated by commas.
        quality: the preset.
        family: the family that they are fitted in.
        views: number of views that are compared.
        size: pixels of all views along a side; None for the preset's.
        iterations: optimiser steps; None for the preset's.
        seed: the seed of the fits.
        work: directory of the NeRFs, none of which may be there yet; None for a temporary one.
        sheets: folder for a contact sheet of each, the source's views above ours; None for none.
        device: where to fit; None for the accelerator if there is one.

    Yields:
        a result after each field.
    """
    device = benchmarking.pick_device(device)
    changes = {name: value for name, value in (("size", size), ("iterations", iterations)) if value is not None}
    architecture = fit_architecture(family, quality)
    settings = preset(quality, family, **changes)
    about = benchmarking.about_run(device, quality=quality, family=family, seed=seed)
    rows: list[dict[str, Any]] = []
    for name in sources.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            job = FitJob(
                out=work or temporary, settings={architecture: settings}, seed=seed, device=device, on_error=_raise
            )
            rows.append(_compare(name, job, views=views, sheets=sheets))
        figures = {"settings": settings.to_dict(), "views": views, "fields": rows}
        title, text = "Fits of foreign fields", _table(rows)
        yield benchmarking.Result(what="foreign", variant=quality, title=title, about=about, figures=figures, text=text)


def _compare(name: str, job: FitJob, *, views: int, sheets: StrPath | None) -> dict[str, Any]:
    """Fit one field, and compare the NeRF with it."""
    ((architecture, settings),) = job.settings.items()
    device, ids, clock = torch.empty(0, device=job.device).device, source_ids(Path(name), OWN_CLASS), time.process_time
    started = clock()
    field = import_field(name).to(device)
    found = find_object(field)
    finding, started = clock() - started, clock()
    shown = ViewSettings(n_views=settings.views, size=settings.size, seed=job.seed)
    posed = views_of(field, found, *ids, source=name, settings=shown)
    rendering = clock() - started
    records: list[Mapping[str, Any]] = []
    job.on_done = lambda source, architecture, record: records.append(record)
    job.run([Source(name, *ids, lambda: posed)])
    directory = nerf_directory(job.out, architecture, *ids)
    others = ViewSettings(n_views=views, size=settings.size, seed=_OTHER_SEED)
    images, cameras = take_views(field, found, others)
    nerf, grid = load_nerf(directory).to(device), read_occupancy(directory / GRID_NAME).to(device)
    psnr, rendered = held_out_psnr(nerf, grid, images, cameras.to(device))
    if sheets is not None:
        _draw(Path(sheets, f"{ids[1]}.png"), rgba_over(images, torch.ones(3)), rendered.cpu())
    return {
        "source": Path(name).name,
        "kind": field.kind,
        "held_out": records[0]["psnr"],
        "other": sum(psnr) / len(psnr),
        "other_each": psnr,
        "cpu_seconds": {"finding": finding, "views": rendering, "fit": records[0]["cpu_seconds"]},
        "notes": records[0]["notes"],
    }


def _raise(error: Exception) -> None:
    raise error


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["source"],
            row["kind"],
            row["held_out"],
            row["other"],
            min(row["other_each"]),
            max(row["other_each"]),
            *row["cpu_seconds"].values(),
        ]
        for row in rows
    ]
    return benchmarking.markdown_table(_COLUMNS, cells)


def _draw(file: Path, source: torch.Tensor, ours: torch.Tensor) -> None:
    """The source's views ``(V, h, w, 3)`` in 0..1 above ours."""
    pixels = torch.cat([source, ours]).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    sheet = contact_sheet([Image.fromarray(view) for view in pixels], columns=len(source))
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        sheet.save(temporary, format="PNG")


TINY: dict[str, Any] = {"quality": "nano", "views": 2, "size": 32, "iterations": 20}


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)
