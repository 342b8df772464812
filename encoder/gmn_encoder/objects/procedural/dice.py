"""Seeded choices that fall the same on every machine.

Everything derives from the doubles of PCG64, whose bits numpy guarantees; its distributions may change between versions, so
none of them is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Random numbers from a sequence of non-negative integers."""

    def __init__(self, *entropy: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def uniform(self, low: float, high: float) -> float:
        """Rounded to 1e-4, so that what is built on it does not hang on the last bit."""
        return round(low + (high - low) * float(self._generator.random()), 4)

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""
        return low + int(float(self._generator.random()) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return float(self._generator.random()) < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[self.integer(0, len(items) - 1)]

    def weighted(self, items: dict[T, float]) -> T:
        """A key, as likely as its value says in proportion to the others."""
        rest = float(self._generator.random()) * sum(items.values())
        for item, weight in items.items():
            rest -= weight
            if rest < 0:
                return item
        return list(items)[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        left = list(items)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in range(len(items))]
