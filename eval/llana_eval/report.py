"""Tables: as text for a terminal, Markdown, LaTeX and HTML; results laid out like the paper's beside the published rows.

Source: the paper's Tables 8 to 13 and 19 to 24, whose rows stand in ``published_captioning.json``.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath, write_bytes

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

_NOTHING = "-"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


@dataclass(frozen=True)
class Table:
    """A title, names of columns and rows of text; the cells of a row are as many as the columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of table {self.title!r} has another number of cells than {len(self.columns)}")

    def to_text(self) -> str:
        widths = [max(len(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]

        def line(row: Sequence[str]) -> str:
            cells = (
                cell.ljust(width) if not i else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return "  ".join(cells).rstrip()

        return (
            "\n".join([self.title, line(self.columns), line(["-" * w for w in widths]), *map(line, self.rows)]) + "\n"
        )

    def to_markdown(self) -> str:
        def line(row: Sequence[str]) -> str:
            return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |"

        rule = "|" + "---|" * len(self.columns)
        return "\n".join([f"**{self.title}**", "", line(self.columns), rule, *map(line, self.rows)]) + "\n"

    def to_latex(self) -> str:
        def line(row: Sequence[str]) -> str:
            return " & ".join(_latex(cell) for cell in row) + r" \\"

        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(self.title)}}}",
                rf"\begin{{tabular}}{{{'l' * 2}{'r' * (len(self.columns) - 2)}}}",
                r"\toprule",
                line(self.columns),
                r"\midrule",
                *map(line, self.rows),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def to_html(self) -> str:
        def line(row: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

        rows = "\n".join(line(row, "td") for row in self.rows)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>\n{caption}\n{line(self.columns, 'th')}\n{rows}\n</table>\n"


def published_tables() -> list[dict[str, Any]]:
    """The paper's captioning tables: number, task, title, columns, rows of method, test set and scores."""
    path = Path(__file__).parent / "published_captioning.json"
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
        tables.append(Table(heading, _columns(table["columns"]), tuple(rows)))
    if not tables:
        names = [name for name in [*EXTENDED, *LABELS] if name in scores]
        names = list(dict.fromkeys(names))
        tables = [Table(f"{title}{note}", _columns(names), (_row(method, test, [scores[name] for name in names]),))]
    return tables


def write_tables(tables: Sequence[Table], stem: StrPath) -> list[Path]:
    """Write tables as ``<stem>.md``, ``<stem>.tex`` and a self-contained ``<stem>.html``; returns the paths."""
    texts = {
        ".md": "\n".join(table.to_markdown() for table in tables),
        ".tex": "\n".join(table.to_latex() for table in tables),
        ".html": html_page(tables[0].title, "\n".join(table.to_html() for table in tables)),
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
        ".none{width:160px;color:#888}pre{white-space:pre-wrap;margin:0;font:inherit}"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f"<style>{style}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _columns(names: Sequence[str]) -> tuple[str, ...]:
    return ("Method", "Test dataset", *(LABELS[name] for name in names))


def _row(method: str, test: str | None, scores: Sequence[float | None]) -> tuple[str, ...]:
    return (method, test or _NOTHING, *(_NOTHING if score is None else f"{score:.1f}" for score in scores))


def _latex(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda match: _LATEX.get(match.group(), "\\" + match.group()), text)
