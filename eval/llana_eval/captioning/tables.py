"""Scores of captions as tables: beside the paper's Tables 8 to 13 and 19 to 24, on their own, and two systems compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..bootstrap import Difference
from ..tables import Cell, Column, Table, published_table
from .judge import JUDGE_NAME

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
    JUDGE_NAME: "Judge",
}
EXTENDED = ("sbert_similarity", "simcse_similarity", "bleu-1", "rouge-l", "meteor")
"""The columns of the paper's Tables 19 to 24; Tables 8 to 13 have the first two."""

_OURS = (JUDGE_NAME,)  # in no published table
_WHO = ("Method", "Test dataset")


def captioning_tables(
    title: str, numbers: Iterable[int], *, method: str, test: str, scores: Mapping[str, float], note: str = ""
) -> list[Table]:
    """The published tables of these numbers with a row for a model at the end; one table of its own where there are none.

    Args:
        title: the task's title.
        numbers: numbers of the paper's tables.
        method, test: name of the model, and what it was tested on.
        scores: name of a metric -> 0..100; columns without one are left open, the judge's is added where there is one.
        note: text added to every title (the protocol).
    """
    note = f"; {note}" if note else ""
    known: dict[str, Cell] = dict(zip(_WHO, (method, test), strict=True))
    known |= {LABELS[name]: float(score) for name, score in scores.items()}
    tables: list[Table] = []
    columns: list[str | Column]
    for number in numbers:
        table = published_table(number)
        more = [LABELS[name] for name in _OURS if name in scores]
        columns = [*table.columns, *(Column(name, digits=1, best="max") for name in more)]
        names = [column.name if isinstance(column, Column) else column for column in columns]
        heading = f"{table.title.partition(': ')[2]}, beside Table {number} of the paper{note}"
        rows = [*([*row, *(None for _ in more)] for row in table.rows), [known.get(name) for name in names]]
        tables.append(replace(table, title=heading, columns=columns, rows=rows))
    if not tables:
        names = [LABELS[name] for name in dict.fromkeys([*EXTENDED, *LABELS]) if name in scores]
        columns = [*_WHO, *(Column(name, digits=1, best="max") for name in names)]
        tables = [Table(f"{title}{note}", columns, [[known[name] for name in (*_WHO, *names)]])]
    return tables


def overall_table(scores: Mapping[str, Any], *, title: str) -> Table:
    """Means and their intervals, from what `score_captions` returned."""
    settings = scores["settings"]
    judged = f" (of {settings['judged']} records)" if "judged" in settings else ""
    rows = []
    for name, value in scores["overall_scores"].items():
        interval = "[{:.2f}, {:.2f}]".format(*scores["confidence_intervals"][name])
        rows.append((LABELS[name] + (judged if name == JUDGE_NAME else ""), f"{value:.4f}", interval))
    heading = f"{title}: {settings['records']} records, protocol {settings['protocol']}"
    return Table(heading, ("Metric", "Mean", f"{settings['bootstrap']['confidence']:.0%} interval"), rows)


def comparison_table(differences: Mapping[str, Difference], *, title: str) -> Table:
    """Two systems in each metric, from what `compare_scores` returned."""
    rows: list[Sequence[Cell]] = []
    for name, each in differences.items():
        values = (f"{each.first:.2f}", f"{each.second:.2f}", f"{each.difference:+.2f}")
        rows.append((LABELS[name], *values, "[{:+.2f}, {:+.2f}]".format(*each.interval), f"{each.p_value:.4f}"))
    return Table(title, ("Metric", "First", "Second", "Difference", "Interval", "p"), rows)
