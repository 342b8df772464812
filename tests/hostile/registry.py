"""The corpus: hostile files, the readers and commands that take their kind, and what is expected of each meeting.

To add a file, write in any `files_*.py` of this folder a function that writes it byte by byte and gives back its path:

    @hostile("mesh")
    def accessor_without_a_buffer_view(folder: Path) -> Path:
        '''An accessor of 1e9 vertices that no buffer backs: 13 GiB.'''
        return written(folder / "bad.gltf", b"...")

Every reader and every command of its kind then meets it, in a process with little memory: `readers.py` lists them, with
`@reader` and `@command`. `goods.py` has a good input of each kind, which commands get behind the bad one and must finish.
Nothing of torch is imported here or in `files_*.py`: the process that writes the files needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal[
    "nerf",  # a file or directory for load_nerf
    "foreign",  # somebody else's field, for the importers
    "encoder",  # an encoder's directory or checkpoint file
    "model",  # a language model's directory
    "embeddings",  # .safetensors, .npz, .npy, .h5, or a directory of such
    "dataset",  # the root of a data set of NeRFs
    "occupancy",  # a grid.pth
    "mesh",
    "cameras",  # a transforms.json
    "images",  # a folder of images with its cameras
]

MEMORY = 1536 << 20
"""Bytes that one meeting may take beyond what the process had before it (`child.py`)."""

SECONDS = 10
"""Seconds of work of one meeting, of the processor; waiting is cut off later (`driver.py`)."""


@dataclass(frozen=True)
class Hostile:
    """A hostile file.

    Attributes:
        kind: what it pretends to be.
        name: of the function that writes it.
        write: writes it into an empty folder, and returns what a user would name: the file or a directory.
        harmless: the readers and commands that may also do their work on it, because they do not read what is wrong; True: all.
        slow: whether only ``-m slow`` meets it.
    """

    kind: Kind
    name: str
    write: Callable[[Path], Path]
    harmless: bool | tuple[str, ...] = False
    slow: bool = False


@dataclass(frozen=True)
class Subject:
    """A reader (``call(path)``) or a command (``call(bad, good, out)`` gives its arguments).

    Attributes:
        name: of the function.
        kinds: what it takes.
        call: see above.
        is_command: which of the two.
        done: of a command, whether the good input behind the bad one was finished, from ``(good, out, stdout)``; None for a
            command that takes one input.
        slow: whether only ``-m slow`` runs it.
        extra: name of the module that it needs and that may be missing.
    """

    name: str
    kinds: tuple[Kind, ...]
    call: Callable[..., Any]
    is_command: bool
    done: Callable[[Path, Path, str], bool] | None = None
    slow: bool = False
    extra: str | None = None


CORPUS: dict[str, Hostile] = {}
SUBJECTS: dict[str, Subject] = {}


def hostile(
    kind: Kind, *, harmless: bool | tuple[str, ...] = False, slow: bool = False
) -> Callable[[Callable], Callable]:
    """Put a writer into the corpus, as ``kind/name``."""
    assert kind in get_args(Kind), kind

    def add(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        key = f"{kind}/{write.__name__}"
        assert key not in CORPUS, key
        CORPUS[key] = Hostile(kind, write.__name__, write, harmless, slow)
        return write

    return add


def reader(*kinds: Kind, slow: bool = False, extra: str | None = None) -> Callable[[Callable], Callable]:
    """Register a function of a path that reads an input of some kinds, as the package's users do."""

    def add(call: Callable[[Path], Any]) -> Callable[[Path], Any]:
        SUBJECTS[call.__name__] = Subject(call.__name__, kinds, call, is_command=False, slow=slow, extra=extra)
        return call

    return add


def command(
    *kinds: Kind,
    done: Callable[[Path, Path, str], bool] | None = None,
    slow: bool = False,
    extra: str | None = None,
) -> Callable[[Callable], Callable]:
    """Register a function of ``(bad, good, out)`` that gives the arguments of ``llana-gmn``."""

    def add(call: Callable[[Path, Path, Path], list]) -> Callable[[Path, Path, Path], list]:
        SUBJECTS[call.__name__] = Subject(
            call.__name__, kinds, call, is_command=True, done=done, slow=slow, extra=extra
        )
        return call

    return add


def load_everything() -> None:
    """Import all modules of this folder that register files, readers or commands."""
    import importlib

    for module in sorted(Path(__file__).parent.glob("files_*.py")):
        importlib.import_module(f"{__package__}.{module.stem}")
    importlib.import_module(f"{__package__}.readers")


def meetings() -> list[tuple[Hostile, Subject]]:
    """Every file with every subject that takes its kind."""
    return [(file, subject) for file in CORPUS.values() for subject in SUBJECTS.values() if file.kind in subject.kinds]
