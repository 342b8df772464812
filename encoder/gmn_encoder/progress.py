"""The progress of long work, reported to its caller: one signature for all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str, int, int], Any]
"""Receives ``(stage, done, total)``: what is being done, in words for people, and how much of it.

What follows a colon in the stage is a note that changes while the work is the same: ``"HASH chair: 24.1 dB"``.
"""


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignores what it receives: the default of functions that take a `Progress`."""
