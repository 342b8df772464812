"""Common tests that are left out, and why."""

from __future__ import annotations

SKIPPED: dict[str, str] = {}
"""Name of a test to the reason why it does not apply to this model."""
