"""The demo on an object that a user brings: fitted in the three families, described, asked about, shown beside its look-alikes.

There is no reference to score against: the page shows what was fitted and what the model says, nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.files import StrPath
from gmn_encoder.fitting.fit_cache import FitCache
from gmn_encoder.fitting.output import FIT_NAME, fit_notes
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects.measuring import seen_colours
from gmn_encoder.progress import Progress, no_progress
from gmn_encoder.rendering.cameras import THREE_QUARTER, turntable
from gmn_encoder.rendering.images import contact_sheet
from gmn_encoder.rendering.marching import STEP
from gmn_encoder.rendering.pictures import nerf_pictures, picture_file

from ..captioning.answers import spread
from ..captioning.user_objects import DESCRIBE
from ..pages import Picture, write_page
from ..representation.retrieval_pictures import GalleryRow, gallery_picture, gallery_rows
from ..tables import Column, Table
from .common import DemoResult, ask_about, embed_families

QUESTIONS = (DESCRIBE, "What kind of object is this?", "What is its main colour?")
NEIGHBOURS = 5
_SIDES, _SIZE = 4, 160
_OPAQUE, _SHOWN_SHARE = 127, 0.08
_STEP = 8 * STEP  # finer still than the steps that nano NeRFs are fitted with


def run_on_object(
    model: Any,
    processor: Any,
    path: StrPath,
    nerfs: Path,
    out: StrPath,
    *,
    cache: FitCache,
    progress: Progress = no_progress,
) -> DemoResult:
    """Fit NeRFs to an object, let the model talk about them, and write ``<out>/<name>.html``; NeRFs stay in the cache.

    Args:
        model, processor: a model and its processor, from `load_model`.
        path: a mesh file, an image folder or a foreign field.
        nerfs: directory of the NeRFs among which neighbours are looked for, see `run_demo`; embeddings stay in `out`.
        out: directory to write to.
        cache: where NeRFs are fitted and kept, in which families and how.
        progress: receives what is being done, and how much of it.

    Raises:
        FileNotFoundError, ValueError: what `FitCache.nerfs` and `embed_families` refuse.
    """
    started = time.perf_counter()
    out = Path(out)
    cache.progress = lambda stage, done, total: progress(f"fitting {stage}", done, total)
    made = cache.nerfs(path)
    name = next(iter(made.values())).name
    own = {FAMILY_NAMES[family]: (directory, load_nerf(directory)) for family, directory in made.items()}
    records = [nerf for _, nerf in own.values()]
    answers = ask_about(
        model, processor, model.encode(records).float().cpu(), QUESTIONS, stage="asking", progress=progress
    )
    embeddings = model.encode_global(records).float().cpu()
    shipped = join_embeddings(embed_families(model, nerfs, out, progress).values())
    rows = []
    for (family, (directory, _)), embedding in zip(own.items(), embeddings, strict=True):
        query = EmbeddingSet(embedding[None], ((directory.parent.name, name),), (family,), (str(directory),))
        (row,) = gallery_rows(query, shipped, rows=1, neighbours=NEIGHBOURS)
        rows.append(replace(row, label=family))
    psnr = {family: json.loads((directory / FIT_NAME).read_text())["psnr"] for family, (directory, _) in own.items()}
    tables = (
        Table(
            f"{name}: what the model says",
            ["Family", Column("PSNR of the fit (dB)", digits=1), *QUESTIONS],
            [[family, psnr[family], *given] for family, given in zip(own, answers, strict=True)],
            note=_about(next(iter(made.values()))),
        ),
        _neighbour_table(rows),
    )
    page = out / f"{name}.html"
    write_page(page, f"Talking to {name}", tables=tables, pictures=_pictures(own, rows, progress))
    return DemoResult(tables, page, time.perf_counter() - started)


def _about(directory: Path) -> str:
    """What is to be said about what a NeRF was fitted to, and what was measured on it."""
    notes = [f"{note}." for note in fit_notes(directory)]
    return " ".join(filter(None, [*notes, _measured(directory)]))


def _measured(directory: Path) -> str:
    """What may be measured on the views that a NeRF was fitted to, to compare answers with; "" without opacity."""
    views = [Image.open(file) for file in sorted((directory / "train").glob("*.png"))]
    if not views or any(view.mode != "RGBA" for view in views):
        return ""
    pixels = np.concatenate([np.asarray(view).reshape(-1, 4) for view in views])
    if pixels[:, 3].min() > _OPAQUE or not (pixels[:, 3] > _OPAQUE).any():
        return ""
    shares = [
        f"{name} {share:.0%}" for name, share in seen_colours(pixels[None, None]).items() if share >= _SHOWN_SHARE
    ]
    return f"Measured on the views, to compare: {', '.join(shares)}."


def _neighbour_table(rows: Sequence[GalleryRow]) -> Table:
    columns = ["Family", *(str(number) for number in range(1, 1 + max(len(row.neighbours) for row in rows)))]
    cells = [[row.label, *(label for _, label, _ in row.neighbours)] for row in rows]
    note = "Cosine of the embeddings, and class."
    return Table("Nearest of the NeRFs that ship, of whatever family", [*columns], cells, note=note)


def _pictures(own: dict[str, tuple[Path, Nerf]], rows: Sequence[GalleryRow], progress: Progress) -> list[Picture]:
    pictures = [Picture("As it was given", _given(next(iter(own.values()))[0]))]
    for number, (family, (_, nerf)) in enumerate(own.items(), 1):
        note = f"{nerf.num_parameters:,} weights, rendered from {_SIDES} sides for you; the model reads the weights."
        sides = nerf_pictures(nerf, turntable(_SIDES, size=_SIZE, first=THREE_QUARTER), step=_STEP)
        pictures.append(Picture(f"As {family}", contact_sheet(sides, columns=_SIDES), note))
        progress("rendering", number, len(own))
    sheet, _ = gallery_picture(rows)
    note = "Left, framed blue: your object. No other NeRF shows it: the class is what may be right."
    return [*pictures, Picture("Nearest of the NeRFs that ship, of whatever family", sheet, note)]


def _given(directory: Path) -> Image.Image:
    """Some of the views that a NeRF was fitted to."""
    views = sorted((directory / "train").glob("*.png"))
    return contact_sheet(
        [picture_file(views[place], size=_SIZE) for place in spread(len(views), _SIDES)], columns=_SIDES
    )
