import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

import gmn_encoder

ROOT = Path(__file__).parent.parent
FOLDERS = {"gmn_encoder": ROOT / "encoder", "llana_gmn": ROOT, "llana_eval": ROOT / "eval"}


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )


@pytest.mark.parametrize("package", ["gmn_encoder", "llana_gmn", "llana_eval"])
def test_import_is_quick_and_light(package):
    heavy = [
        "torch",
        "transformers",
        "deepspeed",
        "triton",
        "gradio",
        "matplotlib",
        "trimesh",
        "evaluate",
        "sentence_transformers",
    ]
    out = python(f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])").stdout
    assert out.strip() == "[]"


def test_public_names_exist():
    assert [name for name in gmn_encoder.__all__ if not hasattr(gmn_encoder, name)] == []


def test_imports_point_one_way():
    """gmn_encoder <- llana_gmn <- llana_eval; the command line may import all."""
    forbidden = {"encoder/gmn_encoder": r"llana_gmn|llana_eval|transformers|peft", "llana_gmn": "llana_eval"}
    for folder, names in forbidden.items():
        for file in (ROOT / folder).rglob("*.py"):
            if "commands" not in file.parts:
                found = re.search(rf"^\s*(?:from|import) (?:{names})\b", file.read_text(), re.MULTILINE)
                assert found is None, f"{file}: {found}"


def test_every_folder_with_modules_is_distributed():
    """A folder without ``__init__.py``, or one that the search leaves out, would be missing in a wheel."""
    search = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    found = {name for where in search["where"] for name in find_packages(ROOT / where, include=search["include"])}
    for name, parent in FOLDERS.items():
        for file in (parent / name).rglob("*.py"):
            assert ".".join(file.parent.relative_to(parent).parts) in found, file


def test_every_data_file_is_distributed():
    """A recipe, a task or a text that no pattern of pyproject.toml names would be missing in a wheel."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    named = {
        file
        for package, globs in patterns.items()
        for glob in globs
        for file in FOLDERS[package.split(".")[0]].joinpath(*package.split(".")).glob(glob)
    }
    for name, parent in FOLDERS.items():
        for file in (parent / name).rglob("*.*"):
            assert file in named or file.suffix not in (".yaml", ".json", ".css"), file
