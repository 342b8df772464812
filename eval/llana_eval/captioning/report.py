"""Results of the captioning benchmark in the layout of the paper's tables, beside the published rows; and pages to show them.

Source: the paper's Tables 8 to 13 and 19 to 24, whose rows stand in ``published/captioning.json``.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath, write_bytes

from ..tables import Cell, Column, Table

LABELS = {
    "bleu-1": "BLEU-1",
    "bleu-2": "BLEU-2",
    "bleu-3": "BLEU-3",
    "bleu-4": "BLEU-4",
    "rouge-1": "ROUGE-1",
    "rouge-2": "ROUGE-2",
    "rouge-l": "ROUGE-L",
    "meteor": "METEOR",
    "sbert_similarity": "S-BERT",
    "simcse_similarity": "SimCSE",
}
EXTENDED = ("sbert_similarity", "simcse_similarity", "bleu-1", "rouge-l", "meteor")
"""The columns of the paper's Tables 19 to 24; Tables 8 to 13 have the first two."""


def published_tables() -> list[dict[str, Any]]:
    """The paper's captioning tables: number, task, title, columns, rows of method, test set and scores."""
    path = Path(__file__).parents[1] / "published" / "captioning.json"
    return json.loads(path.read_text(encoding="utf-8"))["tables"]


def captioning_tables(
    title: str, numbers: Iterable[int], *, method: str, test: str, scores: Mapping[str, float], note: str = ""
) -> list[Table]:
    """The published tables of these numbers with a row for a model at the end; one table of its own where there are none.

    Args:
        title: of the task.
        numbers: of the paper's tables.
        method, test: name of the model, and what it was tested on.
        scores: name of a metric -> 0..100; columns without one are left open.
        note: added to every title (the protocol).
    """
    by_number = {table["table"]: table for table in published_tables()}
    note = f"; {note}" if note else ""
    tables = []
    for number in numbers:
        table = by_number[number]
        rows = [_row(row["method"], row["test"], row["scores"]) for row in table["rows"]]
        rows.append(_row(method, test, [scores.get(name) for name in table["columns"]]))
        heading = f"{table['title']}, beside Table {number} of the paper{note}"
        tables.append(Table(heading, _columns(table["columns"]), rows))
    if not tables:
        names = [name for name in [*EXTENDED, *LABELS] if name in scores]
        names = list(dict.fromkeys(names))
        tables = [Table(f"{title}{note}", _columns(names), [_row(method, test, [scores[name] for name in names])])]
    return tables


def write_tables(tables: Sequence[Table], stem: StrPath) -> list[Path]:
    """Write tables as ``<stem>.md``, ``<stem>.tex`` and a self-contained ``<stem>.html``; returns the paths."""
    texts = {
        ".md": "\n".join(table.markdown() for table in tables),
        ".tex": "\n".join(table.latex() for table in tables),
        ".html": html_page(tables[0].title, "\n".join(table.html() for table in tables)),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(Path(f"{stem}{suffix}"))
        write_bytes(text.encode(), paths[-1])
    return paths


def html_page(title: str, body: str) -> str:
    """A page that needs nothing else: `title` is escaped here, `body` must be HTML already."""
    style = (
        "body{font-family:system-ui,sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse;margin:1em 0}"
        "caption{text-align:left;font-weight:bold;padding:.4em 0}th,td{padding:.25em .7em;border-bottom:1px solid #ccc;"
        "text-align:left;vertical-align:top}td.n{text-align:right}img{display:block;width:160px;height:160px}"
        "figure{margin:1.5em 0}figure img{width:auto;height:auto;max-width:100%}"
        ".none{width:160px;color:#888}td>pre{max-width:24em}pre{white-space:pre-wrap;margin:0;font:inherit}"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f"<style>{style}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _columns(names: Sequence[str]) -> list[str | Column]:
    return ["Method", "Test dataset", *(Column(LABELS[name], digits=1, best="max") for name in names)]


def _row(method: str, test: str | None, scores: Sequence[float | None]) -> list[Cell]:
    return [method, test, *(None if score is None else float(score) for score in scores)]
