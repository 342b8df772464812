"""Scripts only start what stands in the packages: they parse a command line and call one function."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_explains_itself_and_runs_nothing_but_its_main(path, monkeypatch, capsys):
    assert len(path.read_text().splitlines()) < 50
    tree = ast.parse(path.read_text())
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions in ([], ["main"])
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert f"scripts/{path.name}" in capsys.readouterr().out  # a line to copy and run
