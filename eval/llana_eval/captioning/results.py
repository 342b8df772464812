"""Result files: what a model answered, beside what it should have.

Source: docs/released_format.md#generation and PointLLM. A record is ``{"object_id", "question", "ground_truth",
"model_output"}``; a file is a JSON list of them, an object with the list under ``"results"`` (and, in PointLLM, one question
under ``"prompt"``), or one record a line (JSONL). Every entry that cannot be scored is named with its place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath

REQUIRED = ("object_id", "ground_truth", "model_output")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ResultFile:
    """The records of a file.

    Attributes:
        path: the file.
        records: the records that can be scored, in the order of the file; their three texts are strings.
        problems: one sentence for each entry that was left out, and for each that is there twice.
    """

    path: str
    records: list[dict[str, Any]]
    problems: list[str] = field(default_factory=list)


def read_results(path: StrPath) -> ResultFile:
    """Read a result file of ours, LLaNA's or PointLLM's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a JSON file cut short, or one without a single record that can be scored.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected the results of a model") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error
    problems: list[str] = []
    entries = _lines(text, path, problems) if _is_jsonl(text, path) else _whole(text, path)
    records = []
    for place, entry in entries:
        problem = record_problem(entry)
        if problem is None:
            records.append(dict(entry))
        else:
            problems.append(f"{path}: {place}: {problem}")
    problems += [f"{path}: {problem}" for problem in duplicates(records)]
    if not records:
        reason = f": {problems[0]}" if problems else ""
        raise ValueError(f"{path}: holds no result that can be scored{reason}; expected {', '.join(REQUIRED)} in each")
    return ResultFile(str(path), records, problems)


def record_problem(entry: Any) -> str | None:
    """What is wrong with a record; None if it can be scored."""
    if not isinstance(entry, Mapping):
        return f"is a {type(entry).__name__}; expected an object with {', '.join(REQUIRED)}"
    name = f"(object {entry['object_id']!r}) " if isinstance(entry.get("object_id"), str) else ""
    for key in REQUIRED:
        if entry.get(key) is None:
            what = "a reference without a prediction, " if key == "model_output" and entry.get("ground_truth") else ""
            return f"{name}{what}{key} is missing; expected text"
        if not isinstance(entry[key], str):
            return f"{name}{key} is a {type(entry[key]).__name__}; expected text"
    if not entry["ground_truth"].strip():
        return f"{name}ground_truth is empty; there is nothing to compare with"
    return None


def record_key(record: Record) -> tuple[str, str, str]:
    """What a record is about: object, question and reference."""
    return record["object_id"], str(record.get("question") or ""), record["ground_truth"]


def duplicates(records: Sequence[Record]) -> list[str]:
    """One sentence for each object, question and reference that several records are about."""
    counts = Counter(record_key(record) for record in records)
    return [
        f"object {key[0]!r} is there {count} times with the question {_short(key[1])} and the same reference; all are scored"
        for key, count in counts.items()
        if count > 1
    ]


def _is_jsonl(text: str, path: Path) -> bool:
    if path.suffix == ".jsonl":
        return True
    first = text.lstrip().partition("\n")[0]
    if not first.startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict) and "results" not in json.loads(first)
    except ValueError:
        return False


def _lines(text: str, path: Path, problems: list[str]) -> list[tuple[str, Any]]:
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entries.append((f"line {number}", json.loads(line)))
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}: line {number}: is no JSON, or cut short ({error})")
    return entries


def _whole(text: str, path: Path) -> list[tuple[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON, or cut short ({error}); expected a list of results") from error
    extra: dict[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("results"), list):
        if isinstance(content.get("prompt"), str):
            extra = {"question": content["prompt"]}
        content = content["results"]
    if not isinstance(content, list):
        raise ValueError(
            f"{path}: holds a JSON {type(content).__name__}; expected a list of results, or an object with one under 'results'"
        )
    entries = [{**extra, **entry} if isinstance(entry, dict) else entry for entry in content]
    return [(f"result {i}", entry) for i, entry in enumerate(entries)]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
