"""What commands share: their shape, the report of failed inputs, progress bars."""

from __future__ import annotations

import argparse
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, TypeVar

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

from gmn_encoder.progress import Progress as StageProgress

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

Item = TypeVar("Item")


class Command(ABC):
    """A sub-command.

    Attributes:
        name: the command as it is typed.
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


def add_nerf_arguments(parser: argparse.ArgumentParser, *, nargs: str = "+") -> None:
    """``NERF ...`` and ``--architecture``, of commands that read NeRF files of any sizes."""
    parser.add_argument("nerfs", nargs=nargs, metavar="NERF", help="NeRF file or directory; directories are searched")
    parser.add_argument(
        "--architecture", metavar="NAME", help="name of the paper's Table 14, where sizes are ambiguous"
    )


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
def stage_progress(*, one_line: bool = False, disable: bool = False) -> Iterator[StageProgress]:
    """A bar with a line for each stage of the work (`one_line`: for the one at hand); what follows ": " in a stage's name is
    a note behind it."""
    with progress_bar(disable=disable) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            what, _, note = stage.partition(": ")
            line = "" if one_line else what
            if line not in tasks:
                tasks[line] = bar.add_task(what, total=total, note="")
            bar.update(tasks[line], description=what, completed=done, total=total, note=note)

        yield update


def with_rate(items: Iterable[Item], what: str, total: int, *, disable: bool = False) -> Iterator[Item]:
    """The items as they come, beside a bar that says how many of them, and how many a second."""
    started = time.perf_counter()
    with stage_progress(disable=disable) as progress:
        for count, item in enumerate(items, 1):
            yield item
            progress(f"{what}: {count / max(time.perf_counter() - started, 1e-9):.1f}/s", count, total)


def device_named(name: str | None) -> torch.device:
    """What ``--device`` names; None: CUDA where there is one. Raises `ValueError` for a device that is not there."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        raise ValueError(
            f"--device is {name!r}, which is not to be had here; expected cpu, or cuda with a GPU"
        ) from error


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
