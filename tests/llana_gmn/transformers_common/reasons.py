"""Common tests that are left out, and why. Those that leave themselves out (no GPU, no images) give reasons of their own."""

from __future__ import annotations

NO_GENERATION_TESTS = (
    "the source distribution of transformers carries no tests/generation; TRANSFORMERS_TESTS names those of a checkout"
)

SKIPPED: dict[str, str] = {}
"""Name of a test to the reason why it does not apply to this model."""
