"""A table of the common tests at the end of a run that had them."""

from __future__ import annotations

import pytest

_RESULTS = pytest.StashKey[dict[str, dict[str, dict[str, list[str]]]]]()


@pytest.fixture
def record_common_tests(request):
    """Keeps the results of a backbone: names of tests by class and outcome."""
    results = request.config.stash.setdefault(_RESULTS, {})
    return results.__setitem__


def pytest_terminal_summary(terminalreporter, config):
    results = config.stash.get(_RESULTS, {})
    if not results:
        return
    terminalreporter.section("the common tests of transformers")
    terminalreporter.write_line(f"{'backbone':<10} {'tests':<15} {'passed':>6} {'failed':>6} {'skipped':>7}")
    for backbone, classes in results.items():
        for name, outcomes in sorted(classes.items()):
            passed, failed, skipped = (len(outcomes[key]) for key in ("passed", "failed", "skipped"))
            terminalreporter.write_line(f"{backbone:<10} {name:<15} {passed:>6} {failed:>6} {skipped:>7}")
