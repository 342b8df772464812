"""The tasks of the LLaNA benchmark, a YAML file each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from gmn_encoder.extras import require

TASKS = ("brief_description", "detailed_description", "single_round", "multi_round", "hst")


@dataclass(frozen=True)
class Task:
    """What is asked, and how.

    Attributes:
        name: one of `TASKS`.
        title: title of its tables.
        conversation_type: type of its conversations in ShapeNeRF-Text.
        dialogue: whether conversations have several turns, asked one after the other.
        max_new_tokens: most tokens of an answer, unless asked for otherwise.
        published_tables: numbers of the paper's tables with this task.
    """

    name: str
    title: str
    conversation_type: str
    dialogue: bool
    max_new_tokens: int
    published_tables: tuple[int, ...]


def load_task(name: str) -> Task:
    """A task by its name. Raises `ValueError` for an unknown one."""
    if name not in TASKS:
        raise ValueError(f"task {name!r} is unknown; expected one of {', '.join(TASKS)}")
    path = Path(__file__).parent / f"{name}.yaml"
    content = require("yaml", "eval").safe_load(path.read_text(encoding="utf-8"))
    expected = {field.name for field in fields(Task)} - {"name"}
    if not isinstance(content, dict) or set(content) != expected:
        raise ValueError(f"{path}: expected the keys {', '.join(sorted(expected))}")
    return Task(name=name, **{**content, "published_tables": tuple(content["published_tables"])})
