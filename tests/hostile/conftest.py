"""The driver of the corpus, and its counts at the end."""

from __future__ import annotations

import pytest

from .driver import Driver, Result, summary

_RESULTS: dict[tuple[str, str], Result] = {}


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    driver = Driver(tmp_path_factory.mktemp("hostile"))
    driver.results = _RESULTS
    yield driver
    driver.close()


def pytest_terminal_summary(terminalreporter):
    if _RESULTS:
        terminalreporter.write_line(summary(_RESULTS))
