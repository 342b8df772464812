"""Work on strangers' files away from the server: a process for each job, with a time limit and a memory limit.

The process is forked from one that has imported `reading.py` and knows nothing else (multiprocessing's forkserver; where there
is none, each imports it anew). Whatever happens to it - endless work, no memory left, a crash in native code - ends that job with
one sentence, and touches no other.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gmn_encoder.progress import Progress, no_progress

from . import reading

START_SECONDS = 120.0
"""Until a process has to have begun; the imports of the first may take long on a busy machine."""

PATIENCE = 5

_MESSAGE = 8 << 20  # bytes of the longest message
_TICK = 0.05

logger = logging.getLogger(__name__)


class JobError(ValueError):
    """A job that failed; the message is a sentence for the visitor, without the name of the file."""


class Isolation:
    """Runs jobs of `reading.JOBS` in processes of their own.

    Args:
        memory: bytes that a job may use.
        modules: modules that jobs import first, such as those of registered families.
    """

    def __init__(self, *, memory: int, modules: Sequence[str] = ()) -> None:
        self._memory, self._modules = memory, tuple(modules)
        forking = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forking else "spawn")
        if forking:
            self._context.set_forkserver_preload([reading.__name__, *self._modules])
        self._closed = threading.Event()

    def run(
        self,
        job: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        cuda: bool = False,
        progress: Progress = no_progress,
    ) -> dict[str, Any]:
        """Do a job; returns what it returns.

        Args:
            job, arguments: see `reading`.
            seconds: how long it may compute; on a busy machine it may take `PATIENCE` times as long.
            cuda: whether it uses a GPU: address space is not limited then, which CUDA reserves without end, but memory is.
            progress: receives what the job says.

        Raises:
            JobError: it was refused, took too long or too much memory, or crashed.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        limits = {"modules": self._modules, "memory": None if cuda else self._memory}
        process = self._context.Process(
            target=reading.work, args=(sender, job, dict(arguments)), kwargs=limits, daemon=True
        )
        try:
            process.start()
            sender.close()
            return self._follow(process, receiver, seconds, progress)
        finally:
            if process.pid is not None:
                process.kill()
                process.join()
            sender.close()
            receiver.close()

    def close(self) -> None:
        """End all jobs."""
        self._closed.set()

    def _follow(self, process: Any, receiver: Connection, seconds: float, progress: Progress) -> dict[str, Any]:
        end, used, computed = time.monotonic() + START_SECONDS, resident(process.pid), float("inf")
        while not self._closed.is_set():
            if receiver.poll(_TICK):
                try:
                    message = json.loads(receiver.recv_bytes(_MESSAGE))
                except (EOFError, OSError, ValueError) as error:
                    process.join(5)
                    logger.warning("a job ended without a result (exit code %s)", process.exitcode)
                    raise JobError("reading it ended unexpectedly; it was left out") from error
                if "started" in message:
                    end, computed = time.monotonic() + PATIENCE * seconds, computing(process.pid) + seconds
                elif "progress" in message:
                    progress(*message["progress"])
                else:
                    return self._result(message)
            if time.monotonic() > end or computing(process.pid) > computed:
                raise JobError(f"took longer than {seconds:g} s, which is all that a file gets here")
            if resident(process.pid) - used > self._memory:
                raise JobError(self._too_much())
        raise JobError("the server is ending; come back later")

    def _result(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if "done" in message:
            return dict(message["done"])
        if "refused" in message:
            raise JobError(str(message["refused"]))
        if "too much" in message:
            raise JobError(self._too_much())
        logger.warning("a visitor's file was not refused but broke its reader: %s", message.get("broken"))
        raise JobError("cannot be read; it is broken, or of a kind that is not known here")

    def _too_much(self) -> str:
        return f"needs more than the {self._memory >> 20} MiB of memory that a file gets here"


def computing(process: int) -> float:
    """Seconds of processor time that a process has used; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def resident(process: int) -> int:
    """Bytes of memory that a process has; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
