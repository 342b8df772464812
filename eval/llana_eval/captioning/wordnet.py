"""WordNet for METEOR: where it is found, and how it gets there.

nltk looks for ``corpora/wordnet`` in its data directories. Debian's packages `wordnet-base` and `wordnet-sense-index` hold the
same WordNet 3.0 without the file ``lexnames``; its 45 lines are public knowledge, lexnames(5WN). All is put together by
``python -m llana_eval.captioning.wordnet``, which fetches nltk's own package where there is a network and no Debian.
``make`` runs it with ``--optional``: from Debian's packages only, and a sentence instead of a failure.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gmn_encoder.extras import require
from gmn_encoder.files import StrPath

INSTALL_COMMAND = "python -m llana_eval.captioning.wordnet"

_SYSTEM_FOLDERS = ("/usr/share/wordnet", "/usr/local/share/wordnet", "/usr/local/WordNet-3.0/dict")
_PACKAGES = ("wordnet-base", "wordnet-sense-index")
_APT_OPTIONS = (
    "-qq",
    "-o",
    "Acquire::Retries=0",
    "-o",
    "Acquire::http::Timeout=15",
    "-o",
    "Acquire::https::Timeout=15",
)
_APT_SECONDS = 120
_PARTS = ("noun", "verb", "adj", "adv")
_NEEDED = tuple(f"{kind}.{part}" for kind in ("data", "index") for part in _PARTS)
_FILES = (*_NEEDED, *(f"{part}.exc" for part in _PARTS), "cntlist.rev", "index.sense")

# Files of the lexicographers in the order of their numbers.
_LEXNAMES = (
    *(f"adj.{name}" for name in ("all", "pert")),
    "adv.all",
    *(
        f"noun.{name}"
        for name in (
            *("Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event"),
            *("feeling", "food", "group", "location", "motive", "object", "person", "phenomenon", "plant"),
            *("possession", "process", "quantity", "relation", "shape", "state", "substance", "time"),
        )
    ),
    *(
        f"verb.{name}"
        for name in (
            *("body", "change", "cognition", "communication", "competition", "consumption", "contact", "creation"),
            *("emotion", "motion", "perception", "possession", "social", "stative", "weather"),
        )
    ),
    "adj.ppl",
)
_CATEGORIES = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


def lexnames() -> str:
    """The text of WordNet's file ``lexnames``: number, name and syntactic category, one line each."""
    lines = (f"{i:02d}\t{name}\t{_CATEGORIES[name.partition('.')[0]]}\n" for i, name in enumerate(_LEXNAMES))
    return "".join(lines)


def find_wordnet() -> Any:
    """nltk's pointer to its WordNet, a directory or the inside of a zip file; None if there is none. Nothing is loaded."""
    data = require("nltk.data", "eval")
    for name in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return data.find(name)
        except LookupError:
            continue
    return None


@functools.cache
def load_wordnet() -> CachedWordNet:
    """WordNet as METEOR uses it, loaded once (about 2 s).

    Raises:
        FileNotFoundError: WordNet is not installed; the message has the command that installs it.
        ValueError: what stands there is no WordNet.
    """
    root = find_wordnet()
    if root is None:
        raise FileNotFoundError(
            f"METEOR needs WordNet, which nltk cannot find; install it with: {INSTALL_COMMAND} "
            "(or choose metrics without meteor)"
        )
    try:
        return CachedWordNet(_english_reader(root))
    except (OSError, ValueError, AssertionError, LookupError) as error:
        raise ValueError(
            f"{root}: is no WordNet ({type(error).__name__}: {error}); delete it and run: {INSTALL_COMMAND}"
        ) from error


def _english_reader(root: Any) -> Any:
    """nltk's reader without the mapping to other languages, which takes seconds and a file that METEOR does not need."""
    base = require("nltk.corpus.reader.wordnet", "eval").WordNetCorpusReader
    reader = type("EnglishReader", (base,), {"map_wn": lambda self, version="wordnet": None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no other languages
        return reader(root, None)


class CachedWordNet:
    """WordNet's `synsets` of a word, which METEOR needs, remembered: captions use few words often.

    Args:
        reader: nltk's reader, or anything with its `synsets`.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.synsets = functools.lru_cache(maxsize=1 << 17)(lambda word: reader.synsets(word))


def install(target: StrPath | None = None, *, fetch: bool = True) -> Path:
    """Install WordNet into an nltk data directory.

    Taken from the system's package, which is installed first where we may (root on Debian), else fetched by nltk.

    Args:
        target: the data directory; None for the first in NLTK_DATA, else ``nltk_data`` of this Python environment.
        fetch: whether nltk's server may be asked.

    Raises:
        OSError: WordNet is not to be had; the message says what was tried.
    """
    folder = Path(target) if target is not None else _default_target()
    final = folder / "corpora" / "wordnet"
    if all((final / name).is_file() for name in (*_NEEDED, "lexnames")):
        return final
    source = _system_wordnet()
    tried = [f"no WordNet in {', '.join(_SYSTEM_FOLDERS)}"]
    if source is None and (problem := _install_package()) is not None:
        tried.append(problem)
    source = source or _system_wordnet()
    if source is not None:
        return copy_wordnet(source, final)
    if fetch:
        if require("nltk", "eval").download("wordnet", download_dir=str(folder), quiet=True):
            return folder / "corpora"
        tried.append("nltk could not fetch it from its server")
    raise OSError(
        f"WordNet was not installed ({'; '.join(tried)}); on Debian run 'apt-get install {' '.join(_PACKAGES)}' as root and this "
        f"again, or copy an existing nltk_data/corpora/wordnet to {final}"
    )


def copy_wordnet(source: StrPath, target: StrPath) -> Path:
    """Copy a WordNet of the system to where nltk looks, with the file ``lexnames`` that it lacks. Whole or not at all.

    Raises `FileNotFoundError` where `source` is no WordNet.
    """
    source, target = Path(source), Path(target)
    if missing := [name for name in _NEEDED if not (source / name).is_file()]:
        raise FileNotFoundError(f"{source}: is no WordNet, {missing[0]} is missing; expected the files of WordNet 3.0")
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        for name in _FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)
        (temporary / "lexnames").write_text(lexnames(), encoding="ascii")
        if target.is_dir():
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        raise OSError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _default_target() -> Path:
    if folders := os.environ.get("NLTK_DATA", ""):
        return Path(folders.split(os.pathsep)[0])
    return Path(sys.prefix, "nltk_data") if sys.prefix != sys.base_prefix else Path.home() / "nltk_data"


def _system_wordnet() -> Path | None:
    for folder in _SYSTEM_FOLDERS:
        if Path(folder, "data.noun").is_file():
            return Path(folder)
    return None


def _install_package() -> str | None:
    """Install Debian's package; returns why not."""
    apt = shutil.which("apt-get")
    if apt is None:
        return "no apt-get on this system"
    if os.geteuid() != 0:
        return "apt-get needs root"
    install = [apt, *_APT_OPTIONS, "install", "-y", *_PACKAGES]
    problem = ""
    for command in (install, [apt, *_APT_OPTIONS, "update"], install):  # lists of packages are often there already
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=_APT_SECONDS,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"apt-get failed: {error}"
        if done.returncode == 0 and command is install:
            return None
        problem = (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
    return f"apt-get failed: {problem}"


def install_command() -> str:
    """The command that installs WordNet here: as root where that makes Debian's packages available."""
    sudo = "sudo " if shutil.which("apt-get") and os.geteuid() != 0 and _system_wordnet() is None else ""
    return f"{sudo}{sys.executable} -m llana_eval.captioning.wordnet"


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    optional = "--optional" in given
    targets = [each for each in given if each != "--optional"]
    if len(targets) > 1 or (targets and targets[0].startswith("-")):
        sys.stderr.write(f"usage: {INSTALL_COMMAND} [--optional] [NLTK_DATA_DIRECTORY]\n")
        return 2
    try:
        found = None if targets else find_wordnet()
        sys.stdout.write(f"WordNet stands in {found or install(*targets, fetch=not optional)}\n")
    except (OSError, ImportError) as error:
        if optional:
            sys.stderr.write(
                f"METEOR needs WordNet, which could not be installed; everything else works. Run: {install_command()}\n"
            )
            return 0
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
