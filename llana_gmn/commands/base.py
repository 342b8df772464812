"""What commands share: their shape, the report of failed inputs, progress bars."""

from __future__ import annotations

import argparse
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from accelerate import PartialState


class Command(ABC):
    """A sub-command.

    Attributes:
        name: as typed.
        help: one line, starting in lower case.
        example: a line to copy and run, shown at the end of ``--help``.
    """

    name: ClassVar[str] = ""
    help: ClassVar[str] = ""
    example: ClassVar[str] = ""

    @abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    @abstractmethod
    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit status: 0, or 1 when an input failed (`InputErrors.status`)."""


class InputErrors:
    """Inputs that failed while the others went on: one line each on stderr, as soon as it is known."""

    def __init__(self, command: str, *, debug: bool = False) -> None:
        self._command = command
        self._debug = debug
        self.messages: list[str] = []

    def add(self, error: Exception | str) -> None:
        """Report an error whose message already names its input. Raises it again under ``--debug``."""
        if self._debug and isinstance(error, Exception):
            raise error
        message = " ".join(str(error).split())
        self.messages.append(message)
        print(f"llana-gmn {self._command}: {message}", file=sys.stderr)

    @property
    def status(self) -> int:
        return 1 if self.messages else 0


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """``--model``, to be read with `model_path`."""
    parser.add_argument("--model", help="directory of a model, or its name on the hub (default: the one that ships)")


def model_path(arguments: argparse.Namespace) -> str:
    """The model that a command was given, or the one that ships. Raises `FileNotFoundError` in a copy without it."""
    from ..defaults import default_model_path

    return arguments.model or str(default_model_path())


def progress_bar(*, disable: bool = False) -> Progress:
    """A progress bar on stderr with count, elapsed and remaining time; silent where stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=disable or not console.is_terminal,
    )


@contextmanager
def stage_progress(*, disable: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with a line for each kind of work: the function says what is done, how much of it, and of how much."""
    with progress_bar(disable=disable) as bar:
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note="")
            bar.update(tasks[what], completed=done, total=total)

        yield update


def process_state() -> PartialState:
    """This process among those of ``accelerate launch`` or ``torchrun``, on a GPU or on the CPU.

    Raises `ValueError` where the launcher started several processes that do not find each other: each would do all the work.
    """
    import torch
    from accelerate import PartialState

    # Without cpu=True accelerate takes several CPU processes for one each.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=7))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:
        raise RuntimeError(
            f"{launched} processes were launched but accelerate sees {state.num_processes}; use torchrun"
        )
    return state
