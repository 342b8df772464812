"""A JSONL file of records that is filled over hours, by any number of processes, and survives a kill.

Each process appends to a part of its own beside the file; `RecordFile.finish` puts the parts together in the order of the inputs.
What stands in the file and in parts that an interrupted run left is not done again. The settings stand beside it, in
``<file>.settings.json``: a file that was begun with others is refused.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath, atomic_path, read_json, write_json


class RecordFile:
    """The file, as one process sees it.

    Args:
        path: the file.
        names: of the records to be, in order; each is written once, whatever else is in the file stays.
        settings: everything that decides what the records are; a file made with others is refused.
        name_field: of a record, holds its name.
        rank, world_size: of this process.

    Raises:
        ValueError: a file that was written with other settings, or is not such a file.
    """

    def __init__(
        self,
        path: StrPath,
        names: Sequence[StrPath],
        *,
        settings: Mapping[str, Any],
        name_field: str = "name",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._path = Path(path)
        self._names = list(dict.fromkeys(str(name) for name in names))
        self._settings = dict(settings)
        self._name_field = name_field
        self._rank, self._world_size = rank, world_size
        self._part = self._path.with_name(f"{self._path.name}.part-{rank}")
        self._settings_path = _settings_path(self._path)
        self._check_settings()
        self._done = self._read()

    @property
    def done(self) -> int:
        """How many of the records were there when this process started."""
        return sum(name in self._done for name in self._names)

    def missing(self) -> list[str]:
        """The names without a record that are this process's to do: its share, neighbours together."""
        missing = [name for name in self._names if name not in self._done]
        share = -(-len(missing) // self._world_size)
        return missing[self._rank * share : (self._rank + 1) * share]

    def start(self) -> None:
        """Write down the settings. One process does, before any other writes."""
        write_json(self._settings, self._settings_path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record, which holds its name."""
        try:
            with open(self._part, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise OSError(f"{self._part}: cannot be written: {error.strerror or error}") from error

    def finish(self) -> int:
        """Put all parts into the file, in the order of the inputs; returns how many records it holds. One process does."""
        done = self._read()
        asked = set(self._names)
        order = [*(name for name in done if name not in asked), *(name for name in self._names if name in done)]
        with atomic_path(self._path) as temporary:
            lines = (json.dumps(done[name], ensure_ascii=False) + "\n" for name in order)
            temporary.write_text("".join(lines), encoding="utf-8")
        for part in _parts(self._path):
            part.unlink()
        return len(order)

    def records(self) -> dict[str, dict[str, Any]]:
        """What the file and its parts hold now, by name."""
        return self._read()

    def _check_settings(self) -> None:
        if not self._settings_path.is_file():
            if self._path.exists():
                raise ValueError(
                    f"{self._path}: is there already, and not of this command; name another file, or --overwrite"
                )
            return
        before = read_json(self._settings_path)
        for key in sorted({*before, *self._settings}):
            old, new = before.get(key), json.loads(json.dumps(self._settings.get(key)))
            if old != new:
                raise ValueError(
                    f"{self._path}: was begun with {key} {old!r}, now {new!r}; name another file, or --overwrite"
                )

    def _read(self) -> dict[str, dict[str, Any]]:
        done = {}
        for file in [self._path, *_parts(self._path)]:
            if not file.is_file():
                continue
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                if not line:
                    continue
                try:
                    record = json.loads(line)
                    done[record[self._name_field]] = record
                except (ValueError, KeyError, TypeError):
                    if file == self._path:
                        raise ValueError(f"{file}: has a line that is no such record: {line[:60]!r}") from None
                    # the last line of an interrupted run
        return done


def remove_records(path: StrPath) -> None:
    """Delete a record file and all that belongs to it."""
    path = Path(path)
    for file in [path, _settings_path(path), *_parts(path)]:
        file.unlink(missing_ok=True)


def _settings_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.settings.json")


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.part-*"))
