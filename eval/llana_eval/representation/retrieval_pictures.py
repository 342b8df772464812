"""Retrieval as a picture: a row is a query and its nearest gallery items, its own object framed (paper figures 4, 6 to 9).

A view is the `nerf_picture` of a NeRF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.embeddings.records import EmbeddingSet, family_of
from gmn_encoder.files import StrPath, atomic_path
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.progress import Progress, no_progress
from gmn_encoder.rendering.pictures import nerf_picture

from ..classes import class_name

FOUND = (0, 140, 60)
QUERY = (40, 80, 200)
OTHER = (215, 215, 215)
_FRAME, _TEXT, _GAP = 4, 15, 6


@dataclass(frozen=True)
class GalleryRow:
    """A query and what it found.

    Attributes:
        query: the query's NeRF directory.
        label: the text over the query's view.
        neighbours: directory, label and whether it shows the query's object, nearest first.
    """

    query: Path
    label: str
    neighbours: tuple[tuple[Path, str, bool], ...]


def gallery_rows(
    queries: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    rows: int = 8,
    neighbours: int = 10,
    data: StrPath | None = None,
    seed: int = 0,
) -> list[GalleryRow]:
    """Some queries, drawn at random by the seed, and their nearest gallery items.

    Args:
        queries: the embeddings to draw queries from.
        gallery: the embeddings of another family; or `queries` again, where a query does not find itself.
        rows: number of queries, all where there are fewer.
        neighbours: number of items that a row shows.
        data: the data set with the NeRFs as ``<family>/<class_id>/<nerf_id>``; None takes the paths in the sets.
        seed: the seed of the draw.

    Raises:
        ValueError: `rows` or `neighbours` below 1; neither `data` nor paths say where a NeRF is.
    """
    if rows < 1 or neighbours < 1:
        raise ValueError(f"a gallery of {rows} rows and {neighbours} neighbours; expected 1 or more of both")
    generator = torch.Generator().manual_seed(seed)
    chosen = sorted(torch.randperm(len(queries), generator=generator)[:rows].tolist())
    exclude = chosen if queries is gallery else None
    cosines, places = nearest(queries.values[chosen], gallery.values, neighbours, exclude=exclude)
    result = []
    for row, found, values in zip(chosen, places.tolist(), cosines.tolist(), strict=True):
        items = tuple(
            (
                locate(gallery, place, data),
                f"{value:.3f} {class_name(gallery.class_ids[place])}",
                gallery.object_ids[place] == queries.object_ids[row],
            )
            for place, value in zip(found, values, strict=True)
            if value > -1.5  # the query itself, where the gallery has nothing more
        )
        label = f"{queries.families[row]} {class_name(queries.class_ids[row])}"
        result.append(GalleryRow(locate(queries, row, data), label, items))
    return result


def locate(members: EmbeddingSet, row: int, data: StrPath | None) -> Path:
    """The directory of a NeRF, below `data` or as it was named when it was embedded."""
    class_id, nerf_id = members.object_ids[row]
    family = members.families[row]
    if data is not None:
        directories = {name: directory for directory, name in FAMILY_NAMES.items()}
        return Path(data) / directories.get(family, family) / class_id / nerf_id
    if not members.paths[row]:
        raise ValueError(f"nothing says where NeRF {class_id}/{nerf_id} of {family} is; name the data set with --data")
    path = Path(members.paths[row])
    return path.parent if path.is_file() and family_of(path) else path


def draw_gallery(
    rows: Sequence[GalleryRow], path: StrPath, *, size: int = 112, progress: Progress = no_progress
) -> list[str]:
    """Write the picture, as PNG, atomically.

    Args:
        rows: the queries and what they found, of `gallery_rows`.
        path: the file to write.
        size: the side of a view in pixels.
        progress: receives how many views were drawn.

    Returns:
        a message for each NeRF that could not be shown; its place is left blank.
    """
    sheet, errors = gallery_picture(rows, size=size, progress=progress)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return errors


def gallery_picture(
    rows: Sequence[GalleryRow], *, size: int = 112, progress: Progress = no_progress
) -> tuple[Image.Image, list[str]]:
    """What `draw_gallery` writes, and what it returns. Raises `ValueError` for no rows."""
    if not rows:
        raise ValueError("no rows for a gallery; expected at least one query")
    done, total = 0, sum(1 + len(row.neighbours) for row in rows)
    columns = 1 + max(len(row.neighbours) for row in rows)
    width, height = size + 2 * _FRAME + _GAP, size + 2 * _FRAME + _TEXT + _GAP
    sheet = Image.new("RGB", (columns * width + 2 * _GAP, len(rows) * height + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    errors: dict[Path, str] = {}
    views: dict[Path, Image.Image] = {}
    for r, row in enumerate(rows):
        cells = [
            (row.query, row.label, QUERY),
            *((p, text, FOUND if hit else OTHER) for p, text, hit in row.neighbours),
        ]
        for c, (nerf, label, colour) in enumerate(cells):
            left, top = _GAP + c * width + (_GAP if c else 0), _GAP + r * height
            box = (left, top + _TEXT, left + size + 2 * _FRAME - 1, top + _TEXT + size + 2 * _FRAME - 1)
            draw.rectangle(box, outline=colour, width=_FRAME if colour != OTHER else 1)
            draw.text((left, top), label, fill="black", font=font)
            if nerf not in views and nerf not in errors:
                try:
                    views[nerf] = nerf_picture(nerf, size=size)
                except (ValueError, OSError) as error:
                    errors[nerf] = str(error)
            if nerf in views:
                sheet.paste(views[nerf], (left + _FRAME, top + _TEXT + _FRAME))
            done += 1
            progress("drawing views", done, total)
    return sheet, list(errors.values())
