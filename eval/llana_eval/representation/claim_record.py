"""What has been measured of encoders (`claims`), in a file: nothing is measured twice, and figures keep their dates."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmn_encoder.digests import digest_of
from gmn_encoder.files import read_json, write_json

from ..tables import Table


class Record:
    """Figures of methods, a run of each at a time, and tables that are made at once.

    Args:
        path: the JSON file; it grows with every figure.
        objects: the digest of the objects that everything is measured on.

    Raises:
        ValueError: the file holds figures of other objects, or is no such record.
    """

    def __init__(self, path: Path, objects: str) -> None:
        self.path = path
        self._content: dict[str, Any] = {"objects": objects, "runs": [], "tables": {}}
        if path.is_file():
            self._content = read_json(path)
            if not isinstance(self._content.get("runs"), list) or not isinstance(self._content.get("tables"), dict):
                raise ValueError(f"{path}: is no record of encoders' figures; choose another --out")
            if self._content.get("objects") != objects:
                raise ValueError(f"{path}: its figures are of other objects than the data set's; choose another --out")

    def rows(self, group: str, method: str, encoder: str) -> dict[str, float]:
        """What is known of a run of a method: row -> figure.

        Args:
            group: the table that the method is in.
            method: its column.
            encoder: the fingerprint of the encoder that was trained in this run.
        """
        run = self._run(group, method, encoder)
        return {} if run is None else {name: each["value"] for name, each in run["rows"].items()}

    def add(self, group: str, method: str, encoder: str, rows: Mapping[str, float]) -> None:
        """Write figures down, under today's date."""
        run = self._run(group, method, encoder)
        if run is None:
            run = {"group": group, "method": method, "encoder": encoder, "rows": {}}
            self._content["runs"].append(run)
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        run["rows"] |= {name: {"value": float(value), "date": today} for name, value in rows.items()}
        self._save()

    def found(self, group: str) -> dict[str, list[dict[str, float]]]:
        """The figures of all runs of a group, by method."""
        found: dict[str, list[dict[str, float]]] = {}
        for run in self._content["runs"]:
            if run["group"] == group:
                found.setdefault(run["method"], []).append({n: each["value"] for n, each in run["rows"].items()})
        return found

    def table(self, name: str, of: Sequence[object] | str, make: Callable[[], Table]) -> Table:
        """A table that is made once for what it is of.

        Args:
            name: its place in the record.
            of: what it is made from; where that changed it is made anew. Nothing: the table that there is will do.
            make: makes it.
        """
        known = self._content["tables"].get(name)
        if known is None or (of and known["of"] != digest_of(of)):
            self._content["tables"][name] = {"of": digest_of(of), "table": make().to_dict()}
            self._save()
        return Table.from_dict(self._content["tables"][name]["table"])

    def dates(self) -> list[str]:
        """The days on which figures were measured, in order."""
        return sorted({each["date"] for run in self._content["runs"] for each in run["rows"].values()})

    def _run(self, group: str, method: str, encoder: str) -> dict[str, Any] | None:
        wanted = {"group": group, "method": method, "encoder": encoder}
        return next((run for run in self._content["runs"] if wanted.items() <= run.items()), None)

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._content, self.path)
