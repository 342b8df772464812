"""Randomness by name: a draw follows from what it is for, not from what was drawn before it."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def derived_seed(*parts: Any) -> int:
    """A seed of 63 bits from words and numbers, the same on every machine."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(*parts: Any) -> torch.Generator:
    """A generator on the CPU that starts from `derived_seed` of the parts."""
    return torch.Generator().manual_seed(derived_seed(*parts))
