"""The rooms of docs/architecture.md: all are named there, and imports point to rooms further up in its table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `([\w/.]+)` \|", PAGE.split("## Rooms")[1].split("\n## ")[0], re.MULTILINE)
PACKAGES = {"gmn_encoder": "encoder/gmn_encoder", "llana_gmn": "llana_gmn", "llana_eval": "eval/llana_eval"}
MODULES = sorted(
    path for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.py") if path.name != "__main__.py"
)


def room_of(path: Path) -> str:
    """The longest entry of the table that a file, or folder, is or lies in."""
    name = path.relative_to(ROOT).as_posix()
    return max((room for room in ROOMS if name == room or name.startswith(f"{room}/")), key=len)


def imported(path: Path) -> Iterator[Path]:
    """The files and folders of this repository that a module imports, wherever in it, but for annotations."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found = [target(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [] if not node.level else list(path.relative_to(ROOT).parts[: -node.level])
            names = (node.module or "").split(".") if node.module else []
            parts = [*start, *names] if start else names
            found = [target([*parts, alias.name], whole=bool(start)) for alias in node.names]
        else:
            continue
        yield from (each for each in found if each is not None)


def target(parts: list[str], *, whole: bool = False) -> Path | None:
    """The module, or package, that dotted names mean; a name in it counts as itself. None outside this repository."""
    if not whole:
        if parts[0] not in PACKAGES:
            return None
        parts = [*PACKAGES[parts[0]].split("/"), *parts[1:]]
    path = ROOT.joinpath(*parts)
    for candidate in (path, path.parent):
        if candidate.with_suffix(".py").is_file():
            return candidate.with_suffix(".py")
        if candidate.is_dir():
            return candidate / "__init__.py"
    return None


def test_the_table_names_every_room():
    assert set(PACKAGES.values()) < set(ROOMS)
    folders = {path.parent.relative_to(ROOT).as_posix() for path in MODULES if path.name == "__init__.py"}
    inside = set(re.findall(r"`(\w+)`", PAGE))
    unnamed = [name for name in sorted(folders) if name not in ROOMS and name.rpartition("/")[2] not in inside]
    assert not unnamed


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_above_it(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    wrong = [
        f"{path.relative_to(ROOT)} imports {found.relative_to(ROOT)}"
        for path in MODULES
        if room_of(path) == room
        for found in imported(path)
        if room_of(found) not in allowed
    ]
    assert not wrong, wrong
