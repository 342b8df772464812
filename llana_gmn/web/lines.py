"""Waiting in line: so many at a time, in the order they came, and nobody fills the line alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """What may be done by `places` visitors at a time, each of them doing it once; others wait.

    Args:
        what: what waits, for sentences, such as "questions".
        places: how many are served at a time.
        longest: most that wait.
        own: most of one visitor that wait.

    Attributes:
        waited: seconds that each who was served had waited, the latest last; at most 10,000.
    """

    def __init__(self, what: str, *, places: int, longest: int, own: int) -> None:
        self._what, self._places, self._longest, self._own = what, places, longest, own
        self._changed = threading.Condition()
        self._waiting: list[tuple[object, str]] = []
        self._served: list[str] = []
        self._closed = False
        self.waited: list[float] = []

    @contextmanager
    def turn(self, visitor: str) -> Iterator[None]:
        """Wait until it is the visitor's turn, which lasts as long as the block.

        Raises:
            ValueError: too many wait already, of this visitor or of all; or the line was closed.
        """
        came, ticket = time.monotonic(), (object(), visitor)
        with self._changed:
            self._check(visitor)
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._closed or self._next() is ticket)
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            if self._closed:
                raise ValueError("the server is ending; come back later")
            self._served.append(visitor)
            self.waited = [*self.waited[-9999:], time.monotonic() - came]
        try:
            yield
        finally:
            with self._changed:
                self._served.remove(visitor)
                self._changed.notify_all()

    def close(self) -> None:
        """Send everybody away who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> tuple[object, str] | None:
        if len(self._served) >= self._places:
            return None
        return next((each for each in self._waiting if each[1] not in self._served), None)

    def _check(self, visitor: str) -> None:
        if sum(each[1] == visitor for each in self._waiting) >= self._own:
            raise ValueError(f"{self._own} of your {self._what} are waiting already; wait for an answer to one of them")
        if len(self._waiting) >= self._longest:
            raise ValueError(f"{self._longest} {self._what} of others are waiting; try again in a moment")
