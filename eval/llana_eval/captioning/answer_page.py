"""A page to look at: tables, pictures, and views of NeRFs beside question, reference, answer and scores.

One file: pictures stand in it, nothing is fetched, all text is escaped.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gmn_encoder.files import StrPath, write_bytes

from ..representation.retrieval_pictures import view
from ..tables import Table
from .report import LABELS, html_page

_SIDE = 160
_EMBEDDINGS = (".npy", ".h5")


@dataclass(frozen=True)
class Picture:
    """A picture on a page: what is said over it, the picture, and what it shows in words."""

    title: str
    image: Image.Image
    note: str = ""


def write_gallery(
    path: StrPath,
    title: str,
    results: Sequence[Mapping[str, Any]],
    nerfs: Sequence[StrPath | None],
    *,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    count: int = 24,
    on_error: Callable[[Exception], Any] | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        title: of the page.
        results: records with ``scores``, as `score_captions` returns them; without any the page ends with the pictures.
        nerfs: the NeRF of each; None, or a file that is an embedding, has no view.
        tables, pictures: shown above.
        count: most records to show, spread evenly over all.
        on_error: called where a view cannot be made, which is then missing; None raises.
        progress: called with how many records are done, and of how many.
    """
    if len(nerfs) != len(results):
        raise ValueError(f"{len(nerfs)} NeRFs came with {len(results)} results; expected one each")
    chosen = spread(len(results), count)
    views: dict[str, str | None] = {}
    rows = []
    for number, place in enumerate(chosen, 1):
        nerf = nerfs[place]
        key = "" if nerf is None else str(nerf)
        if key not in views:
            views[key] = _view(nerf, on_error)
        rows.append(_row(results[place], views[key]))
        if progress is not None:
            progress(number, len(chosen))
    body = [*(table.html() for table in tables), *(_figure(picture) for picture in pictures)]
    if rows:
        head = "<tr><th>NeRF</th><th>Object</th><th>Question</th><th>Reference</th><th>Answer</th><th>Scores</th></tr>"
        body += [f"<p>{len(chosen)} of {len(results)} records.</p>", "<table>", head, *rows, "</table>"]
    write_bytes(html_page(title, "\n".join(body)).encode(), path)


def spread(total: int, count: int) -> list[int]:
    """At most `count` places, evenly over `total`, the first included."""
    if count < 0:
        raise ValueError(f"the gallery's count must not be negative, got {count}")
    count = min(count, total)
    return [number * total // count for number in range(count)]


def view_uri(nerf: StrPath, *, size: int = _SIDE) -> str:
    """A view of a NeRF (`gallery.view`) as a ``data:`` URI of a PNG. Raises what `load_nerf` raises."""
    return image_uri(view(nerf, size=size))


def image_uri(image: Image.Image) -> str:
    """A picture as a ``data:`` URI of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _view(nerf: StrPath | None, on_error: Callable[[Exception], Any] | None) -> str | None:
    if nerf is None or Path(nerf).suffix in _EMBEDDINGS:
        return None
    try:
        return view_uri(nerf)
    except (ValueError, OSError) as error:
        if on_error is None:
            raise
        on_error(error)
        return None


def _figure(picture: Picture) -> str:
    title, note = html.escape(picture.title), html.escape(picture.note)
    caption = f"<figcaption><b>{title}</b><br>{note}</figcaption>"
    return f'<figure>{caption}<img alt="{title}" src="{image_uri(picture.image)}"></figure>'


def _row(result: Mapping[str, Any], view: str | None) -> str:
    picture = f'<img alt="view" src="{view}">' if view else '<div class="none">no view</div>'
    texts = (str(result.get(key) or "") for key in ("object_id", "question", "ground_truth", "model_output"))
    scores = "<br>".join(
        f"{html.escape(LABELS.get(name, name))} {value:.1f}" for name, value in result["scores"].items()
    )
    cells = "".join(f"<td><pre>{html.escape(text)}</pre></td>" for text in texts)
    return f"<tr><td>{picture}</td>{cells}<td>{scores}</td></tr>"
