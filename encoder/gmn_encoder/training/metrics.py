"""The metrics of a run: a JSON line for each validation, as far as the last checkpoint knows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_bytes

METRICS_NAME = "metrics.jsonl"


def append_metrics(file: Path, record: Mapping[str, Any]) -> None:
    """Add a line, atomically."""
    before = file.read_bytes() if file.is_file() else b""
    write_bytes(before + (json.dumps(record) + "\n").encode(), file)


def forget_metrics_after(file: Path, step: int) -> None:
    """Drop lines that a killed run wrote after its last checkpoint: they are measured again."""
    if not file.is_file():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
    write_bytes("".join(f"{line}\n" for line in lines).encode(), file)
