"""Answers to look at: views of NeRFs beside question, reference, answer and scores, as part of a page."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gmn_encoder.embeddings.files import is_embedding_file
from gmn_encoder.files import StrPath
from gmn_encoder.progress import Progress, no_progress
from gmn_encoder.rendering.pictures import nerf_picture

from ..pages import image_uri
from .tables import LABELS

_SIDE = 160
_HEADINGS = ("NeRF", "Object", "Question", "Reference", "Answer", "Scores")


def answers_html(
    results: Sequence[Mapping[str, Any]],
    nerfs: Sequence[StrPath],
    *,
    count: int = 24,
    on_error: Callable[[Exception], Any] | None = None,
    progress: Progress = no_progress,
) -> str:
    """A table of answers, for `write_page`.

    Args:
        results: records with ``scores``, as `score_captions` returns them, or with ``right``, whether the answer is.
        nerfs: the NeRF of each; a file that is an embedding has no view.
        count: most records to show, spread evenly over all.
        on_error: receives what is wrong where a view cannot be made, which is then missing; None raises.
        progress: receives how many records are done.

    Raises `ValueError` where NeRFs and results differ in number, or for a negative count.
    """
    if len(nerfs) != len(results):
        raise ValueError(f"{len(nerfs)} NeRFs came with {len(results)} results; expected one each")
    chosen = spread(len(results), count)
    views: dict[str, str | None] = {}
    rows = []
    for number, place in enumerate(chosen, 1):
        key = str(nerfs[place])
        if key not in views:
            views[key] = _view(key, on_error)
        rows.append(_row(results[place], views[key]))
        progress("drawing the answers", number, len(chosen))
    head = "".join(f"<th>{name}</th>" for name in _HEADINGS)
    return "\n".join(
        [f"<p>{len(chosen)} of {len(results)} records.</p>", "<table>", f"<tr>{head}</tr>", *rows, "</table>"]
    )


def spread(total: int, count: int) -> list[int]:
    """At most `count` places, evenly over `total`, the first included."""
    if count < 0:
        raise ValueError(f"the gallery's count must not be negative, got {count}")
    count = min(count, total)
    return [number * total // count for number in range(count)]


def _view(nerf: str, on_error: Callable[[Exception], Any] | None) -> str | None:
    if is_embedding_file(nerf):
        return None
    try:
        return image_uri(nerf_picture(nerf, size=_SIDE))
    except (ValueError, OSError) as error:
        if on_error is None:
            raise
        on_error(error)
        return None


def _row(result: Mapping[str, Any], view: str | None) -> str:
    picture = f'<img alt="view" src="{view}">' if view else '<div class="none">no view</div>'
    texts = (str(result.get(key) or "") for key in ("object_id", "question", "ground_truth", "model_output"))
    scores = "<br>".join(
        f"{html.escape(LABELS.get(name, name))} {value:.1f}" for name, value in result["scores"].items()
    )
    if "right" in result:
        scores = f'<b class="{"right" if result["right"] else "wrong"}">{"right" if result["right"] else "wrong"}</b>'
    cells = "".join(f"<td><pre>{html.escape(text)}</pre></td>" for text in texts)
    return f"<tr><td>{picture}</td>{cells}<td>{scores}</td></tr>"
