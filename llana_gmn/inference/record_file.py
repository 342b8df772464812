"""A JSONL file of records that is filled over hours, by any number of processes, and survives a kill.

Each process appends to a part of its own beside the file; `RecordFile.finish` puts the parts together in the order of the inputs.
What stands in the file and in parts that an interrupted run left is not done again, if it was asked of the same: a record holds
what it is of (such as the SHA-256 of its input), and one of something else is done again. The settings, the model's fingerprint
among them, stand beside it in ``<file>.settings.json``: a file that was begun with others is refused. What was read to find out
stands in ``<file>.digests.json``.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath, atomic_path, read_json, write_json

_ABSENT = object()


class RecordFile:
    """The file, as one process sees it.

    Args:
        path: the file.
        asked: name of each record to be -> what it is of, as JSON: fields that the record gets, and that one in the file must
            have to be kept. Each is written once, in this order; records of other names stay as they are.
        settings: everything else that decides what the records are; a file made with others is refused.
        name_field: the field of a record that holds its name.
        rank, world_size: number of this process, and of all.

    Attributes:
        settings: the settings as JSON values.
        done: names whose record was there when this process started.
        changed: names whose record was there, but of something else; they are done again.

    Raises:
        ValueError: a file that was written with other settings, or is not such a file.
    """

    def __init__(
        self,
        path: StrPath,
        asked: Mapping[str, Mapping[str, Any]],
        *,
        settings: Mapping[str, Any],
        name_field: str = "name",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._path = Path(path)
        self._asked = {name: _as_json(fields) for name, fields in asked.items()}
        self.settings = _as_json(settings)
        self._name_field = name_field
        self._rank, self._world_size = rank, world_size
        self._part = self._path.with_name(f"{self._path.name}.part-{rank}")
        self._settings_path = _settings_path(self._path)
        self._check_settings()
        there = {record[name_field] for record in self._lines()}
        valid = self.records()
        self.done: Sequence[str] = [name for name in self._asked if name in valid]
        self.changed: Sequence[str] = [name for name in self._asked if name in there and name not in valid]

    def missing(self) -> list[str]:
        """The names without a record that are this process's to do: its share, neighbours together."""
        done = set(self.done)
        missing = [name for name in self._asked if name not in done]
        share = -(-len(missing) // self._world_size)
        return missing[self._rank * share : (self._rank + 1) * share]

    def start(self) -> None:
        """Write down the settings. One process does, before any other writes."""
        write_json(self.settings, self._settings_path)

    def is_of(self, name: str) -> dict[str, Any]:
        """What the record of a name is to be of."""
        return self._asked[name]

    def append(self, name: str, fields: Mapping[str, Any]) -> None:
        """Add a record: its name, what it is of, and `fields`."""
        record = {self._name_field: name, **self._asked[name], **fields}
        try:
            with open(self._part, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise OSError(f"{self._part}: cannot be written: {error.strerror or error}") from error

    def finish(self) -> int:
        """Put all parts into the file, in the order of the inputs; returns how many records it holds. One process does."""
        done = self.records()
        order = [*(name for name in done if name not in self._asked), *(name for name in self._asked if name in done)]
        with atomic_path(self._path) as temporary:
            lines = (json.dumps(done[name], ensure_ascii=False) + "\n" for name in order)
            temporary.write_text("".join(lines), encoding="utf-8")
        for part in _parts(self._path):
            part.unlink()
        return len(order)

    def records(self) -> dict[str, dict[str, Any]]:
        """What the file and its parts hold now, by name, without what was asked of something else."""
        return {
            record[self._name_field]: record
            for record in self._lines()
            if self._asked.get(record[self._name_field], {}).items() <= record.items()
        }

    def _check_settings(self) -> None:
        if not self._settings_path.is_file():
            if self._path.exists():
                raise ValueError(
                    f"{self._path}: is there already, and not of this command; name another file, or --overwrite"
                )
            return
        before = read_json(self._settings_path)
        for key in sorted({*before, *self.settings}):
            old, new = before.get(key, _ABSENT), self.settings.get(key, _ABSENT)
            if old != new:
                begun = f"without {key}" if old is _ABSENT else f"with {key} {old!r}"
                now = "without it" if new is _ABSENT else repr(new)
                raise ValueError(f"{self._path}: was begun {begun}, now {now}; name another file, or --overwrite")

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Every record of the file and its parts, the later of two of one name last."""
        for file in [self._path, *_parts(self._path)]:
            if not file.is_file():
                continue
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                if not line:
                    continue
                try:
                    record = json.loads(line)
                    hash(record[self._name_field])
                except (ValueError, KeyError, TypeError):
                    if file == self._path:
                        raise ValueError(f"{file}: has a line that is no such record: {line[:60]!r}") from None
                    continue  # the last line of an interrupted run
                yield record


def remove_records(path: StrPath) -> None:
    """Delete a record file and all that belongs to it."""
    path = Path(path)
    for file in [path, _settings_path(path), digests_path(path), *_parts(path)]:
        file.unlink(missing_ok=True)


def digests_path(path: StrPath) -> Path:
    """Where the digests of what the records of a file came from are remembered."""
    path = Path(path)
    return path.with_name(f"{path.name}.digests.json")


def _settings_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.settings.json")


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.part-*"))


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values))
