"""Scripts only start what stands in the packages: they import it, parse a command line and call it."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_explains_itself_and_only_starts_something(path, monkeypatch, capsys):
    _, *imports, guard = ast.parse(path.read_text()).body
    assert all(isinstance(each, ast.Import | ast.ImportFrom) for each in imports)
    assert isinstance(guard, ast.If) and len(guard.body) <= 3
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert f"scripts/{path.name}" in capsys.readouterr().out  # a line to copy and run
