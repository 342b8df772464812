"""Every hostile file meets every reader and command of its kind: each is refused with a sentence that names it, in little
memory and time, and what stands behind it is done. `registry.py` says how to add one."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from .registry import load_everything, meetings

load_everything()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


def _parameters():
    for file, subject in meetings():
        marks = [pytest.mark.slow] if file.slow or subject.slow else []
        if subject.extra and importlib.util.find_spec(subject.extra) is None:
            marks.append(pytest.mark.skip(reason=f"{subject.extra} is not installed"))
        yield pytest.param(file, subject, id=f"{file.kind}/{file.name}-{subject.name}", marks=marks)


@pytest.mark.parametrize(("file", "subject"), list(_parameters()))
def test_it_is_refused(driver, file, subject):
    result = driver.meet(file, subject)
    assert result.ok, f"{result.outcome}: {result.message}"
