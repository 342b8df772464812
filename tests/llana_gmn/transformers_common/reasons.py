"""Common tests that are left out, and why. Those that leave themselves out (no GPU, no images) give reasons of their own."""

from __future__ import annotations

from .library_tests import is_complete

SKIPPED: dict[str, str] = {}
"""Name of a test to the reason."""

if not is_complete():
    SKIPPED["test_generation_tester_mixin_inheritance"] = (
        "the source distribution of transformers carries no tests/generation; TRANSFORMERS_TESTS names those of a checkout"
    )
