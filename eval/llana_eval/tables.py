"""Tables of results: one record, written as text, Markdown, LaTeX, HTML or JSON; and the paper's tables to stand beside them.

Numbers are formatted in one place (`Column.format`), so a table shows the same digits in every form; JSON keeps them whole. The
published rows are data files, ``published/table_<number>.json``, each the `to_dict` of a table, copied from "Weight Space
Representation Learning on Diverse NeRF Architectures" (Ballerini et al., 2026).
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from gmn_encoder.files import StrPath, write_bytes, write_json

Cell = str | int | float | None
"""A name, a count, a figure, or None where there is none."""

MISSING = "–"  # noqa: RUF001 (the dash of the paper's tables)
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",  # noqa: RUF001
    "±": r"$\pm$",
    "≥": r"$\geq$",
    **{character: "\\" + character for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        digits: decimals of its floats; counts and names are shown as they are.
        best: kind of its bold numbers, "max", "min" or none; equal as shown means equally bold.
    """

    name: str
    digits: int = 2
    best: Literal["max", "min"] | None = None

    def __post_init__(self) -> None:
        if self.digits < 0:
            raise ValueError(f"column {self.name!r} has {self.digits} digits; expected 0 or more")
        if self.best not in ("max", "min", None):
            raise ValueError(f"column {self.name!r} has best={self.best!r}; expected 'max', 'min' or None")

    def format(self, value: Cell) -> str:
        if value is None:
            return MISSING
        return f"{value:.{self.digits}f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        title: one line.
        columns: headings, or `Column` where digits or bold type matter.
        rows: rows of as many cells as there are columns.
        note: text below, for what a reader must know: seeds, settings, sources.
        group_by: name of the column within whose equal values the best are sought (None: over all rows).

    Raises:
        ValueError: a row of another length, an infinite number or NaN, an unknown `group_by`, two columns of one name.
    """

    title: str
    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    group_by: str | None = None

    def __post_init__(self) -> None:
        columns = tuple(Column(each) if isinstance(each, str) else each for each in self.columns)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        names = [column.name for column in columns]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"table {self.title!r} has two columns {doubled!r}; expected each once")
        if self.group_by is not None and self.group_by not in names:
            raise ValueError(
                f"table {self.title!r} is grouped by {self.group_by!r}; expected one of {', '.join(names)}"
            )
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(columns):
                raise ValueError(
                    f"row {number} of table {self.title!r} has {len(row)} cells; expected {len(columns)}, one a column"
                )
            for name, cell in zip(names, row, strict=True):
                if isinstance(cell, float) and not math.isfinite(cell):
                    raise ValueError(
                        f"row {number} of table {self.title!r} has {cell} under {name!r}; expected a number, or None"
                    )

    def with_rows(self, other: Table) -> Table:
        """This table with the rows of `other` above its own (published rows first), matched by the names of columns.

        Where both are grouped by the same column, that holds in each group. What one of them lacks is left empty; the columns
        of `other` that this table has not are left out.
        """
        places = {column.name: i for i, column in enumerate(_columns(other))}
        names = [column.name for column in _columns(self)]
        above = [tuple(row[places[name]] if name in places else None for name in names) for row in other.rows]
        rows: list[Sequence[Cell]] = [*above, *self.rows]
        if self.group_by is not None and self.group_by == other.group_by:
            group = names.index(self.group_by)
            order = list(dict.fromkeys(row[group] for row in rows))
            rows.sort(key=lambda row: order.index(row[group]))
        note = " ".join([self.note, f"With the rows of {other.title}.", other.note]).strip()
        return replace(self, rows=rows, note=note)

    def markdown(self) -> str:
        """A GitHub table with its title above and its note below, ending in a newline."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cells) + " |"

        def escape(text: str) -> str:
            return " ".join(text.split()).replace("|", "\\|")

        rule = ["---:" if right else "---" for right in self._right_aligned()]
        lines = [f"**{escape(self.title)}**", "", line([escape(column.name) for column in _columns(self)]), line(rule)]
        for row, bold in self._shown():
            lines.append(
                line([f"**{escape(text)}**" if b else escape(text) for text, b in zip(row, bold, strict=True)])
            )
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def text(self) -> str:
        """Columns of a terminal, with the title above and the note below, ending in a newline."""
        right = self._right_aligned()
        rows = [[column.name for column in _columns(self)], *(row for row, _ in self._shown())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(right))]

        def line(cells: Sequence[str]) -> str:
            parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
            return "  ".join(parts).rstrip()

        lines = [self.title, line(rows[0]), line(["-" * width for width in widths]), *map(line, rows[1:])]
        return "\n".join([*lines, *([self.note] if self.note else [])]) + "\n"

    def latex(self) -> str:
        """A ``table`` environment with booktabs rules (``\\usepackage{booktabs}``)."""

        def escape(text: str) -> str:
            return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))

        def line(cells: Sequence[str]) -> str:
            return "  " + " & ".join(cells) + r" \\"

        alignment = "".join("r" if right else "l" for right in self._right_aligned())
        caption = escape(self.title) + (r" \\ " + escape(self.note) if self.note else "")
        lines = [r"\begin{table}", r"  \centering", rf"  \caption{{{caption}}}", rf"  \begin{{tabular}}{{{alignment}}}"]
        lines += [r"  \toprule", line([escape(column.name) for column in _columns(self)]), r"  \midrule"]
        for row, bold in self._shown():
            lines.append(
                line([rf"\textbf{{{escape(text)}}}" if b else escape(text) for text, b in zip(row, bold, strict=True)])
            )
        return "\n".join([*lines, r"  \bottomrule", r"  \end{tabular}", r"\end{table}"]) + "\n"

    def html(self) -> str:
        """A ``<table>`` with a caption; no style of its own beyond alignment."""
        right = self._right_aligned()

        def line(tag: str, cells: Sequence[str]) -> str:
            parts = [
                f'<{tag} style="text-align: {"right" if r else "left"}">{cell}</{tag}>'
                for cell, r in zip(cells, right, strict=True)
            ]
            return "<tr>" + "".join(parts) + "</tr>"

        lines = ["<table>", f"<caption>{html.escape(self.title)}</caption>"]
        lines += ["<thead>", line("th", [html.escape(column.name) for column in _columns(self)]), "</thead>", "<tbody>"]
        for row, bold in self._shown():
            cells = [html.escape(text) for text in row]
            lines.append(line("td", [f"<b>{text}</b>" if b else text for text, b in zip(cells, bold, strict=True)]))
        lines += ["</tbody>", "</table>"]
        return "\n".join([*lines, *([f"<p>{html.escape(self.note)}</p>"] if self.note else [])]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Everything, numbers unrounded, for JSON; `from_dict` reads it back."""
        return {
            "title": self.title,
            "columns": [asdict(column) for column in _columns(self)],
            "rows": [list(row) for row in self.rows],
            "note": self.note,
            "group_by": self.group_by,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Table:
        """The table that `to_dict` described. Raises `ValueError` where it is none."""
        try:
            columns = [Column(**each) for each in content["columns"]]
            return cls(content["title"], columns, content["rows"], content.get("note", ""), content.get("group_by"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"no table: {error}; expected title, columns and rows as Table.to_dict writes them"
            ) from error

    def _right_aligned(self) -> list[bool]:
        """Columns of numbers: those whose cells are all numbers or missing, with at least one number."""
        return [
            any(isinstance(row[i], int | float) for row in self.rows)
            and not any(isinstance(row[i], str) for row in self.rows)
            for i in range(len(self.columns))
        ]

    def _shown(self) -> list[tuple[list[str], list[bool]]]:
        """Each row as text, and which of its cells are bold."""
        columns = _columns(self)
        text = [[column.format(cell) for column, cell in zip(columns, row, strict=True)] for row in self.rows]
        bold = [[False] * len(columns) for _ in self.rows]
        group = None if self.group_by is None else [column.name for column in columns].index(self.group_by)
        keys = [None if group is None else row[group] for row in self.rows]
        for i, column in enumerate(columns):
            if column.best is None:
                continue
            choose = max if column.best == "max" else min
            for key in set(keys):
                members = [r for r, k in enumerate(keys) if k == key and isinstance(self.rows[r][i], int | float)]
                if not members:
                    continue
                best = text[choose(members, key=lambda r: self.rows[r][i])][i]  # type: ignore[arg-type, return-value]
                for r in members:
                    bold[r][i] = text[r][i] == best
        return list(zip(text, bold, strict=True))


def _columns(table: Table) -> tuple[Column, ...]:
    """The columns of a table, all of them `Column` after its making."""
    return tuple(column for column in table.columns if isinstance(column, Column))


def check_table_file(path: StrPath) -> None:
    """Raise `ValueError` for a name that `save_table` cannot write to."""
    if Path(path).suffix not in (".md", ".tex", ".html", ".json"):
        raise ValueError(f"{path}: unknown kind {Path(path).suffix!r} for a table; expected .md, .tex, .html or .json")


def save_table(table: Table, path: StrPath, *, details: Mapping[str, Any] | None = None) -> None:
    """Write a table as the suffix says: .md, .tex, .html, or .json, which holds `details` beside ``table``."""
    check_table_file(path)
    suffix = Path(path).suffix
    if suffix == ".json":
        write_json({"table": table.to_dict(), **(details or {})}, path)
        return
    text = {".md": table.markdown, ".tex": table.latex, ".html": table.html}[suffix]()
    write_bytes(text.encode(), path)


def published_numbers() -> list[int]:
    """The numbers of the paper's tables that ship with the package."""
    names = [entry.name for entry in (resources.files("llana_eval") / "published").iterdir()]
    return sorted(int(name[6:-5]) for name in names if name.startswith("table_") and name.endswith(".json"))


def published_table(number: int) -> Table:
    """A table of the paper, its numbers in percent as printed.

    Raises:
        ValueError: it does not ship with the package.
    """
    file = resources.files("llana_eval") / "published" / f"table_{number}.json"
    if not file.is_file():
        there = ", ".join(map(str, published_numbers()))
        raise ValueError(f"table {number} of the paper is not kept here; expected one of {there}")
    return Table.from_dict(json.loads(file.read_text(encoding="utf-8")))
