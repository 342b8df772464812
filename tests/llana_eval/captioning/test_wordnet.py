from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from llana_eval.captioning import wordnet


@pytest.fixture
def no_wordnet(monkeypatch, tmp_path):
    """A machine without WordNet, network or apt."""
    import nltk

    monkeypatch.setattr("nltk.data.path", [str(tmp_path / "nltk_data")])
    monkeypatch.setattr(wordnet, "_SYSTEM_FOLDERS", (str(tmp_path / "system"),))
    monkeypatch.setattr(wordnet.shutil, "which", lambda name: None)
    monkeypatch.setattr(nltk, "download", lambda *a, **k: False)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk_data"))
    wordnet.load_wordnet.cache_clear()
    yield tmp_path
    wordnet.load_wordnet.cache_clear()


HEADER = "  1 WordNet 3.0 Copyright 2006 by Princeton University.\n"
DATA = {
    "noun": "00000100 06 n 02 sofa 0 couch 0 000 | a seat\n",
    "verb": "00000100 29 v 01 sit 0 000 00 | be seated\n",
    "adj": "00000100 00 a 01 soft 0 000 | yielding\n",
    "adv": "00000100 02 r 01 softly 0 000 | in a soft way\n",
}


def tiny_system(folder):
    """A WordNet of four synsets, without `lexnames` like Debian's. Offsets are places in the file."""
    folder.mkdir()
    for part, line in DATA.items():
        offset = len(HEADER)
        line = line.replace("00000100", f"{offset:08d}")
        (folder / f"data.{part}").write_text(HEADER + line)
        letter = line.split()[2]
        words = [word for word in line.split("|")[0].split() if word.isalpha() and len(word) > 2]
        entries = [f"{word} {letter} 1 0 1 0 {offset:08d}  \n" for word in sorted(words)]
        (folder / f"index.{part}").write_text(HEADER + "".join(entries))
        (folder / f"{part}.exc").write_text("sofas sofa\n" if part == "noun" else "")


def test_lexnames_as_in_the_manual_page():
    lines = [line.split("\t") for line in wordnet.lexnames().splitlines()]
    assert len(lines) == 45
    assert [int(number) for number, _, _ in lines] == list(range(45))
    by_number = {int(number): (name, int(category)) for number, name, category in lines}
    # lexnames(5WN)
    assert by_number[0] == ("adj.all", 3)
    assert by_number[2] == ("adv.all", 4)
    assert by_number[3] == ("noun.Tops", 1)
    assert by_number[28] == ("noun.time", 1)
    assert by_number[29] == ("verb.body", 2)
    assert by_number[43] == ("verb.weather", 2)
    assert by_number[44] == ("adj.ppl", 3)


def test_the_error_has_the_command(no_wordnet):
    with pytest.raises(FileNotFoundError, match=r"install it with: python -m llana_eval\.captioning\.wordnet"):
        wordnet.load_wordnet()


def test_install_says_what_it_tried(no_wordnet, capsys):
    assert wordnet.main([]) == 1
    err = capsys.readouterr().err
    for part in ("no WordNet in", "no apt-get", "nltk could not fetch it", "apt-get install wordnet-base"):
        assert part in err
    assert wordnet.main(["--help"]) == 2


def test_install_from_the_systems_files(no_wordnet, capsys):
    tiny_system(no_wordnet / "system")
    assert wordnet.main([]) == 0
    assert "nltk_data/corpora/wordnet" in capsys.readouterr().out
    reader = wordnet.load_wordnet()
    assert [lemma.name() for lemma in reader.synsets("couch")[0].lemmas()] == ["sofa", "couch"]
    assert reader.synsets("couch")[0].lexname() == "noun.artifact"
    assert reader.synsets("couch") is reader.synsets("couch")  # remembered
    assert wordnet.main([]) == 0  # again: found


def test_a_folder_that_is_no_wordnet_is_named(no_wordnet):
    (no_wordnet / "system").mkdir()
    (no_wordnet / "system" / "data.noun").write_text("")
    with pytest.raises(FileNotFoundError, match=r"data\.verb is missing; expected the files of WordNet 3\.0"):
        wordnet.install()
    assert not (no_wordnet / "nltk_data" / "corpora" / "wordnet").exists()
    broken = no_wordnet / "nltk_data" / "corpora" / "wordnet"
    broken.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is no WordNet .*; delete it and run"):
        wordnet.load_wordnet()


def fake(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def debian(no_wordnet, monkeypatch):
    """A Debian of which we are root. Its packages are there after `apt-get update` and an install."""
    tiny_system(no_wordnet / "packages")
    script = f"""
cd {no_wordnet}
echo "$*" >> log
case "$*" in
  *update*) touch lists ;;
  *install*) [ -e lists ] || {{ echo "E: Unable to locate package" >&2; exit 100; }}
             mkdir -p system; cp packages/* system/ ;;
esac"""
    apt = fake(no_wordnet / "apt-get", script)
    monkeypatch.setattr(wordnet.shutil, "which", lambda name: str(apt) if name == "apt-get" else None)
    monkeypatch.setattr(wordnet.os, "geteuid", lambda: 0)
    return no_wordnet


def test_root_on_debian_installs_the_package_and_asks_for_lists_only_where_they_are_missing(debian, capsys):
    assert wordnet.main(["--optional"]) == 0
    assert "nltk_data/corpora/wordnet" in capsys.readouterr().out
    assert [line.split()[7] for line in (debian / "log").read_text().splitlines()] == ["install", "update", "install"]
    assert wordnet.load_wordnet().synsets("couch")
    assert wordnet.main(["--optional"]) == 0  # found: nothing is run again
    assert len((debian / "log").read_text().splitlines()) == 3


@pytest.mark.parametrize("reason", ["no root", "no network", "no answer", "no apt-get"])
def test_an_install_that_may_fail_says_the_command_and_never_fails(debian, monkeypatch, capsys, reason):
    def no_server(*args, **kwargs):
        raise AssertionError("nltk's server was asked")

    monkeypatch.setattr("nltk.download", no_server)
    if reason == "no root":
        monkeypatch.setattr(wordnet.os, "geteuid", lambda: 1000)
    elif reason == "no network":
        fake(debian / "apt-get", "echo 'E: Failed to fetch' >&2; exit 100")
    elif reason == "no answer":
        fake(debian / "apt-get", "exec sleep 60")
        monkeypatch.setattr(wordnet, "_APT_SECONDS", 0.2)
    else:
        monkeypatch.setattr(wordnet.shutil, "which", lambda name: None)
    assert wordnet.main(["--optional"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    command = f"Run: {'sudo ' if reason == 'no root' else ''}{wordnet.sys.executable} -m llana_eval.captioning.wordnet"
    assert line.endswith(command)
    assert "METEOR needs WordNet" in line


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["install", "demo", "test"])
def test_make_puts_wordnet_in_place_once(target, tmp_path):
    log = tmp_path / "log"
    for name in ("python", "llana-gmn", "ruff", "mypy"):
        fake(tmp_path / "bin" / name, f'echo "{name} $*" >> {log}')
    (tmp_path / ".installed").touch()
    os.utime(tmp_path / ".installed", (2**32, 2**32))  # newer than what it is made from
    makefile = Path(__file__).parents[3]
    for times in (1, 2):
        subprocess.run(["make", "--directory", makefile, target, f"VENV={tmp_path}"], check=True, capture_output=True)
        done = log.read_text().splitlines()
        assert done.count("python -m llana_eval.captioning.wordnet --optional") == 1
        assert done[0] == "python -m llana_eval.captioning.wordnet --optional"
        os.utime(tmp_path / ".wordnet", (2**32 + times, 2**32 + times))
