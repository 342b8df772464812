"""The blocks of README.md and docs/*.md: Python runs, command lines are parsed by the real parser, and run where that is cheap.

No block is left out: one in another language than those below fails. Recipes with their changes are read, options in running
text exist, and so does every file of the repository that is named. What stands for the reader's own files (``NERF``, ``model``)
has a stand-in from what ships.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llana_gmn.commands import COMMANDS, build_parser, load_command, main
from llana_gmn.default.objects import default_model_path, default_nerfs_path
from tests.hub_stub import HubStub
from tests.llana_eval.conftest import saying_model

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTINUED = {"new-family.md"}
"""Pages whose Python blocks go on from one another; elsewhere each stands alone."""

RUN = {"inspect", "embed", "caption", "chat", "render", "retrieve", "score", "plot"}
"""Commands that are run, in the order of the page; the others are parsed."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPERATORS = {"&&", "||", ";", "|"}

SPECIFICATION = "docs/released_format.md"
CITATION = re.compile(rf"(?:{re.escape(SPECIFICATION)}|(?<![\w/.])released_format\.md)(?:#([\w-]*))?")
SHORT_CITATION = re.compile(r"(?<![\w/#&.])`?#([a-z][\w-]*)`?")
"""A citation further down in a file that named the page before: ``(#hash-grid)``."""


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """``(line, text)`` of the blocks of a language."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] == language:
            yield text[: match.start(2)].count("\n"), match[2]


def python_cases() -> Iterator[object]:
    for page in PAGES:
        found = list(blocks(page, "python"))
        groups = [found] if page.name in CONTINUED else [[block] for block in found]
        for group in groups:
            yield pytest.param(page, group, id=f"{page.name}:{group[0][0]}")


@pytest.mark.parametrize(("page", "group"), list(python_cases()))
@pytest.mark.usefixtures("own_families")
def test_python_blocks_run(page, group, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    released_files(tmp_path, "".join(block for _, block in group))
    HubStub(monkeypatch)  # nothing leaves the machine
    names = {"__name__": "__main__"}
    for line, block in group:
        # Blank lines before it: errors name the line of the page.
        exec(compile("\n" * line + block, str(page), "exec", dont_inherit=True), names)


def released_files(folder: Path, text: str) -> None:
    """Small ones in place of the released files that a block names: Llama-2, and an encoder of the paper's sizes."""
    if (name := "meta-llama/Llama-2-7b-hf") in text:
        from transformers import AutoModelForCausalLM

        from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer

        tokenizer = tiny_tokenizer()
        tokenizer.save_pretrained(folder / name)
        AutoModelForCausalLM.from_config(tiny_text_config(len(tokenizer))).save_pretrained(folder / name)
    if (name := "l_rec_con/best.pt") in text:
        (folder / name).parent.mkdir()
        (folder / name).symlink_to(ROOT / "tests/data/golden/ckpts/golden/best.pt")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_that_is_tested(page):
    languages = {match[1] for match in BLOCK.finditer(page.read_text(encoding="utf-8"))}
    assert languages <= {"python", "bash", "json", "text"}
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(BLOCK.findall(page.read_text(encoding="utf-8")))


def test_there_are_blocks():
    assert sum(1 for _ in python_cases()) >= 12
    assert sum(len(list(blocks(page, "bash"))) for page in PAGES) >= 6


def command_lines(block: str) -> Iterator[list[str]]:
    """The simple commands of a block of shell, as words, without variables before them."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in OPERATORS:
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def llana_gmn_arguments(words: list[str]) -> list[str] | None:
    """What ``llana-gmn`` is given, started by itself or by a launcher; None for other programs."""
    if words[0] == "llana-gmn":
        return words[1:]
    if words[0] == "torchrun" or words[:2] == ["accelerate", "launch"] or words[0].startswith("python"):
        for module in ("llana_gmn",):
            if module in words and words[words.index(module) - 1] == "-m":
                return words[words.index(module) + 1 :]
    return None


def check_program(words: list[str]) -> None:
    """Fail unless a command that is not ours can be found with what it names."""
    program, *rest = words
    if program == "make":
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(rest) <= targets, words
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert {name for word in rest for name in re.findall(r"\[(.*)\]", word) for name in name.split(",")} <= set(
            extras
        )
    elif program.startswith("scripts/"):
        assert os.access(ROOT / program, os.X_OK), f"{program} is not executable"
        subprocess.run(["bash", "-n", ROOT / program], check=True)
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None, words
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), words
    else:
        assert program in {"cd", "git"}, f"{words}: neither run nor looked at; teach tests/test_documentation.py"


def check_settings(arguments: argparse.Namespace) -> None:
    """Read the recipe that a training command names, with its changes."""
    if arguments.command == "train":
        from llana_gmn.training.recipe import read_recipe

        config = ROOT / arguments.config if arguments.config else None
        read_recipe(config, arguments.settings, stage=arguments.stage)
    elif arguments.command == "train-encoder":
        from gmn_encoder.training.representation.recipe import load_recipe

        load_recipe(arguments.config, arguments.settings)


@pytest.fixture
def readers_files(tmp_path, monkeypatch):
    """A working directory with what the pages call the reader's own, and small ones in place of what was released."""
    monkeypatch.chdir(tmp_path)
    nerfs = default_nerfs_path()
    for family in ("mlp", "triplane", "hash"):
        for each in sorted((nerfs / family).glob("*/*"))[:3]:
            shutil.copytree(each, tmp_path / "data" / each.relative_to(nerfs))
    (tmp_path / "NERF").symlink_to(next((tmp_path / "data" / "hash").glob("*/*")))
    for model in ("model", "llana-gmn-7b"):
        (tmp_path / model).symlink_to(default_model_path())
    shutil.copytree(tmp_path / "data", tmp_path / "nerf" / "shapenet")
    members = [f"{path.parent.name}/{path.name}\n" for path in (tmp_path / "data" / "hash").glob("*/*")]
    (tmp_path / "nerf" / "shapenet" / "test.txt").write_text("".join(members))
    released_files(tmp_path, "l_rec_con/best.pt")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    encoder_of_the_model(tmp_path / "encoder" / "best")
    for family in ("mlp", "triplane", "hash"):
        assert main(["embed", f"data/{family}", "--encoder", "encoder/best", "--out", f"{family}.safetensors"]) == 0
    saying_model(tmp_path / "judge", "75#right")
    for name in ("results.json", "other.json"):
        Path(name).write_text(
            '[{"object_id": "a", "question": "?", "ground_truth": "A red chair.", "model_output": "A chair."},'
            ' {"object_id": "b", "question": "?", "ground_truth": "A lamp.", "model_output": "A red lamp."}]'
        )
    return tmp_path


def encoder_of_the_model(path: Path) -> None:
    from llana_gmn import load_model

    load_model(default_model_path())[0].nerf_encoder.save_pretrained(path)


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "bash"))], ids=lambda page: page.name)
def test_command_lines_are_understood_and_the_cheap_ones_run(page, readers_files, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    parser = build_parser()
    for _, block in blocks(page, "bash"):
        for words in command_lines(block):
            for word in words:
                if re.match(r"(scripts|docs|tests|benchmarks)/", word):
                    assert (ROOT / word).exists(), f"{word} is not in the repository"
            given = llana_gmn_arguments(words)
            if given is None:
                check_program(words)
                continue
            arguments = parser.parse_args(given)  # ends the test where it does not understand
            check_settings(arguments)
            if arguments.command in RUN and words[0] == "llana-gmn":
                assert main(given) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_in_the_text_exist(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for code in re.findall(r"`llana-gmn ([^`]*)`", text):
        command, *words = code.split()
        assert command in COMMANDS, f"llana-gmn {code}"
        parser = argparse.ArgumentParser()
        load_command(command).add_arguments(parser)
        known = {option for action in parser._actions for option in action.option_strings}
        assert {word for word in words if word.startswith("--")} <= known, f"llana-gmn {code}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:scripts|docs|tests|benchmarks|llana_gmn|encoder|eval)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or (ROOT / "encoder/gmn_encoder" / path).exists(), path


def heading_anchors(text: str) -> list[str]:
    """The anchors that GitHub gives to a page's headings, in order; of equal headings the later ones are numbered."""
    counts: dict[str, int] = {}
    anchors = []
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", BLOCK.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)  # of a link, its text
        anchor = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        seen = counts[anchor] = counts.get(anchor, -1) + 1
        anchors.append(f"{anchor}-{seen}" if seen else anchor)
    return anchors


def tracked_texts() -> dict[str, str]:
    """The Python, Markdown and YAML files of the repository, this one left out: its examples are no citations."""
    given = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if given.returncode == 0:
        names = given.stdout.decode().split("\0")
    else:  # not a clone: an archive of the sources
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in path.parts]
    kept = [name for name in names if name.endswith((".py", ".md", ".yaml")) and (ROOT / name).is_file()]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in kept if name != "tests/test_documentation.py"}


def test_anchors_are_made_as_github_makes_them():
    page = "# The *two*, and `C++`\n```text\n# no heading\n```\n## Hash grid\n## Hash grid ##\n### [TRI-8C](x.md) & more_\n"
    assert heading_anchors(page) == ["the-two-and-c", "hash-grid", "hash-grid-1", "tri-8c--more_"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_headings(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for name, anchor in re.findall(r"\]\(((?!https?:)[^)#\s]*)#([^)\s]+)\)", text):
        target = page.parent / name if name else page
        assert anchor in heading_anchors(target.read_text(encoding="utf-8")), f"{name}#{anchor}"


def test_citations_of_the_specification_lead_to_headings():
    anchors = heading_anchors((ROOT / SPECIFICATION).read_text(encoding="utf-8"))
    assert len(set(anchors)) == len(anchors)
    wrong = []
    for name, text in tracked_texts().items():
        cited = [match[1] for match in CITATION.finditer(text) if match[1] is not None]
        if name.endswith(".py") and cited:  # colours and comments are no citations: only files that cite the page
            cited += [each for each in SHORT_CITATION.findall(text) if not re.fullmatch(r"[0-9a-f]{3,8}", each)]
        if name != SPECIFICATION:
            wrong += [f"{name}: #{each}" for each in cited if each not in anchors]
    assert not wrong, wrong


def test_nothing_cites_what_is_not_in_the_repository():
    """The facts stand in `SPECIFICATION`; a private note of them that nobody else has is no source."""
    assert not [name for name, text in tracked_texts().items() if "FORMATS.md" in text]
