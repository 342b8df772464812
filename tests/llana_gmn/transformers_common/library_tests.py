"""The common tests of the installed transformers, as a package.

Its source distribution carries the top level of `tests/`: `ModelTesterMixin`, `ConfigTester`, `ProcessorTesterMixin`. It leaves
out the folders below, and with them `GenerationTesterMixin` (`tests/generation`) and `ExportTesterMixin` (`tests/exporters`).
Those stand in a checkout of transformers only: the variable `TRANSFORMERS_TESTS` names the `tests` of one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import types
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "transformers_tests"
"""What the package is called here: `tests` is our own."""

FOLDER = "TRANSFORMERS_TESTS"

LEFT_OUT: dict[str, dict[str, Any]] = {
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "utils.test_configuration_utils": {"config_common_kwargs": {}},
}
"""What the modules that are carried import from those that are not. Empty: nothing of it is tested then."""


def fetch(version: str, folder: Path) -> Path:
    """The `tests` of a transformers release, from the package index unless they stand in `folder` already.

    Raises `RuntimeError` where they cannot be had.
    """
    name = f"transformers-{version}"
    tests = folder / name / "tests"
    if not (tests / "__init__.py").exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1"]
        command += ["--no-deps", "--no-binary", ":all:", "--dest", str(folder), f"transformers=={version}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError("pip gave no answer in 300 s") from error
        archive = folder / f"{name}.tar.gz"
        if done.returncode or not archive.exists():
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip saved no archive")
        with tarfile.open(archive) as opened:
            wanted = [each for each in opened.getmembers() if each.name.startswith(f"{name}/tests/")]
            opened.extractall(folder, wanted, filter="data")
        archive.unlink()
        if not (tests / "test_modeling_common.py").exists():
            raise RuntimeError(f"the source distribution of {name} carries no tests/test_modeling_common.py")
        (tests / "__init__.py").touch()
    return tests


def is_complete() -> bool:
    """Whether they are those of a checkout, with what the source distribution leaves out."""
    return (Path(os.environ[FOLDER]) / "generation" / "test_utils.py").exists()


def load(module: str) -> types.ModuleType:
    """A module of the tests in the folder that `TRANSFORMERS_TESTS` names."""
    folder = Path(os.environ[FOLDER])
    if PACKAGE not in sys.modules:
        _package(PACKAGE, folder)
        for name, content in LEFT_OUT.items():
            if not (folder / f"{name.replace('.', '/')}.py").exists():
                parent = name.split(".")[0]
                _package(f"{PACKAGE}.{parent}", folder / parent)
                _package(f"{PACKAGE}.{name}", folder).__dict__.update(content)
        if not (folder.parent / "utils").exists():  # addresses of images, which need a network
            _package("fetch_hub_objects_for_ci", folder).__dict__["url_to_local_path"] = str
    return import_module(f"{PACKAGE}.{module}")


def _package(name: str, folder: Path) -> types.ModuleType:
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [str(folder)]
    return package
