"""Our classes pass what transformers asks of every model, configuration and processor, with backbones of five kinds."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest

from .library_tests import FOLDER, fetch

CASES = Path(__file__).with_name("cases.py")
BACKBONES = ("llama", "qwen2", "gemma2", "opt", "mistral")
SETTINGS = "[pytest]\npython_files = cases.py\n"


@pytest.fixture(scope="session")
def library_tests(request, tmp_path_factory):
    """The folder of the installed transformers' tests: `TRANSFORMERS_TESTS`, or fetched once, into pytest's cache."""
    import transformers

    if given := os.environ.get(FOLDER):
        return Path(given)
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("transformers") if cache else tmp_path_factory.mktemp("transformers")
    try:
        return fetch(transformers.__version__, folder)
    except RuntimeError as error:
        return pytest.skip(f"the source distribution of transformers {transformers.__version__} cannot be had: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_common_tests_of_transformers_pass(backbone, library_tests, tmp_path, record_common_tests):
    pytest.importorskip("parameterized", reason="transformers' tests need it: pip install 'llana-gmn[test]'")
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-c", str(tmp_path / "pytest.ini"), f"--rootdir={CASES.parents[3]}"]
    command += ["--noconftest", "-p", "no:cacheprovider", "-q", "--tb=short", f"--junitxml={report}", str(CASES)]
    here = {"BACKBONE": backbone, FOLDER: str(library_tests), "HF_HUB_OFFLINE": "1", "RUN_SLOW": "yes"}
    done = subprocess.run(command, env={**os.environ, **here}, capture_output=True, text=True, timeout=900)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    results = read_report(report)
    record_common_tests(backbone, results)
    assert {"ConfigTest", "ModelTest", "ProcessorTest"} <= results.keys(), done.stdout[-3000:]
    for name, least in {"ConfigTest": 9, "ModelTest": 90, "ProcessorTest": 20}.items():
        assert len(results[name]["passed"]) >= least, f"{name}: only {len(results[name]['passed'])} tests passed"
    failed = [f"{kind}.{name}" for kind, outcomes in results.items() for name in outcomes["failed"]]
    assert not failed, f"{', '.join(failed)}\n{done.stdout[-6000:]}"


def read_report(path: Path) -> dict[str, dict[str, list[str]]]:
    """Names of the tests of each class by outcome: passed, failed, skipped."""
    results: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"passed": [], "failed": [], "skipped": []})
    for case in ElementTree.parse(path).iter("testcase"):
        found = {child.tag for child in case}
        outcome = "failed" if found & {"failure", "error"} else "skipped" if "skipped" in found else "passed"
        results[case.attrib["classname"].rsplit(".", 1)[-1]][outcome].append(case.attrib["name"])
    return dict(results)
