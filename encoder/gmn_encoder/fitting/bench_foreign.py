"""Fits of what users bring: how far they agree with their source, in views that neither training nor fit saw.

    python scripts/bench_foreign.py chair.ckpt,guitar.splat,lamp.glb,photos --quality quick --sheets sheets

Views of the source are rendered by its own rule, over white; of a folder of photographs they are those that its fit did not see.
Seconds are of the processor: opening the source, which finds its object and renders the views to fit to, and the fit.
A NeRF that stands in `--work` as ``llana-gmn fit SOURCE --out WORK`` left it is measured and not fitted again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import benchmarking
from ..files import StrPath, atomic_path
from ..nerfs.files import load_nerf
from ..nerfs.importers import import_field, is_foreign
from ..objects import ViewSettings
from ..rendering.cameras import Cameras
from ..rendering.images import contact_sheet, rgba_over
from ..rendering.occupancy import GRID_NAME, read_occupancy
from .captures import read_capture
from .distil import take_views
from .distil_object import find_object
from .job import FitJob
from .measure import held_out_psnr
from .output import nerf_directory
from .placement import PlacementRequest
from .presets import preset
from .single import fit_architecture
from .sources import find_sources, read_mesh

_OTHER_SEED = 4711

_COLUMNS = {
    "source": "",
    "kind": "",
    "held-out views": ".1f",
    "other views": ".1f",
    "lowest": ".1f",
    "highest": ".1f",
    "opening": ".0f",
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
    """Fits of some sources, and their agreement with the sources.

    Args:
        sources: foreign fields, meshes and folders of photographs with cameras, separated by commas.
        quality: the preset.
        family: the family that they are fitted in.
        views: number of views that are compared; folders of photographs have their own.
        size: pixels of all views along a side; None for the preset's.
        iterations: optimiser steps; None for the preset's.
        seed: the seed of the fits.
        work: directory of the NeRFs, where those that are there with these settings are kept; None for a temporary one.
        sheets: folder for a contact sheet of each, the source's views above ours; None for none.
        device: where to fit; None for the accelerator if there is one.

    Yields:
        a result after each source.

    Raises what `find_sources`, reading a source and fitting it raise.
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
        figures = {"settings": settings.to_dict(), "views": views, "sources": [*rows]}
        title, text = "Fits of foreign fields, photographs and meshes", _table(rows)
        yield benchmarking.Result(what="foreign", variant=quality, title=title, about=about, figures=figures, text=text)


def _compare(name: str, job: FitJob, *, views: int, sheets: StrPath | None) -> dict[str, Any]:
    """Fit one source, and compare the NeRF with it."""
    ((architecture, settings),) = job.settings.items()
    shown = ViewSettings(n_views=settings.views, size=settings.size, seed=job.seed)
    found = list(find_sources(name, settings=shown, seed=job.seed, placement=PlacementRequest()))
    if len(found) != 1:
        raise ValueError(f"{name}: holds {len(found)} sources; expected one, several with commas")
    (source,), records = found, list[Mapping[str, Any]]()
    job.on_done = job.on_skip = lambda source, architecture, record: records.append(record)
    job.run([source])
    device, (record,) = torch.empty(0, device=job.device).device, records
    kind, images, cameras, known = _own_views(
        name, ViewSettings(n_views=views, size=settings.size, seed=_OTHER_SEED), device
    )
    directory = nerf_directory(job.out, architecture, source.class_id, source.nerf_id)
    nerf, grid = load_nerf(directory).to(device), read_occupancy(directory / GRID_NAME).to(device)
    psnr, rendered = held_out_psnr(nerf, grid, images, cameras.to(device), known=known)
    if sheets is not None:
        _draw(Path(sheets, f"{source.nerf_id}.png"), rgba_over(images, torch.ones(3)), rendered.cpu())
    return {
        "source": Path(name).name,
        "kind": kind,
        "held_out": record["psnr"],
        "other": sum(psnr) / len(psnr),
        "other_each": psnr,
        "cpu_seconds": {"opening": record.get("opening_cpu_seconds"), "fit": record["cpu_seconds"]},
        "notes": record["notes"],
    }


def _own_views(name: str, settings: ViewSettings, device: torch.device) -> tuple[str, Tensor, Cameras, Tensor | None]:
    """What a source is, and views of it that its fit did not see: uint8 ``(V, h, w, 4)``, their cameras and what they know."""
    if is_foreign(name):
        field = import_field(name).to(device)
        return field.kind, *take_views(field, find_object(field, PlacementRequest()), settings), None
    if not Path(name).is_dir():
        posed = read_mesh(name, "", "", settings=settings)
        return "mesh", posed.images, posed.cameras, None
    posed = read_capture(name, "", "")
    if posed.surrounded or not len(posed.held_out):
        raise ValueError(
            f"{name}: has {len(posed.held_out)} photographs to measure on, {'without' if posed.surrounded else 'with'} "
            "opacity or a background of one colour; expected some that show the object alone"
        )
    return "photographs", posed.held_out, posed.held_out_cameras, posed.held_out_known


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
