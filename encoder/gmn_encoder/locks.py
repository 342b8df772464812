"""One writer of an output at a time.

A lock is a small file that says who has it: process, machine, since when. The system lets go of it when the process ends, however
it ends (``flock``). Where there are no such locks (Windows, some network disks), the file's being there is the lock; one of a
process of this machine that is gone is taken over.

The processes of one job are one writer: its main process holds the lock for all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .files import StrPath

LOCK_NAME = ".lock"
"""Name of the lock of a directory that stands in it."""

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_TRIES = 100
_POLL_SECONDS = 0.2

logger = logging.getLogger(__name__)


class BeingWrittenError(ValueError):
    """Another process is writing the output."""


@contextlib.contextmanager
def output_lock(path: StrPath, *, file: StrPath | None = None, hold: bool = True, wait: bool = False) -> Iterator[bool]:
    """Hold an output for the time of a block: nobody else who asks gets it. The block receives whether it was waited for.

    Args:
        path: the output, which need not be there yet.
        file: the lock; None for ``.<name>.lock`` beside the output.
        hold: False for the other processes of a job, whose main process holds it.
        wait: whether to wait, with a log message, until another process that has it lets go of it.

    Raises:
        BeingWrittenError: another process has it, and `wait` is off; the message says which.
        OSError: the lock cannot be written.
    """
    if not hold:
        yield False
        return
    output = Path(os.path.abspath(path))
    lock = output.with_name(f".{output.name}.lock") if file is None else Path(file)
    is_new = not lock.parent.is_dir()
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        release, waited = _acquire_when_free(lock, path) if wait else (_acquire(lock, path), False)
    except OSError as error:
        raise OSError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        yield waited
    finally:
        release()
        if is_new:
            with contextlib.suppress(OSError):  # somebody wrote into it, which was the point
                lock.parent.rmdir()


def _acquire_when_free(lock: Path, path: StrPath) -> tuple[Callable[[], None], bool]:
    waited = False
    while True:
        try:
            return _acquire(lock, path), waited
        except BeingWrittenError as error:
            if not waited:
                logger.warning("%s: waiting", str(error).partition(";")[0])
            waited = True
            time.sleep(_POLL_SECONDS)


def _acquire(lock: Path, path: StrPath) -> Callable[[], None]:
    """Take a lock; returns what lets go of it."""
    for _ in range(_TRIES):
        try:
            is_ours = True
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            is_ours = False
            try:
                handle = os.open(lock, os.O_RDWR)
            except FileNotFoundError:  # its holder let go of it between our two looks
                continue
        try:
            has_it = _lock(handle)
            if has_it and not _is_at(handle, lock):  # its holder removed it between our opening and our locking it
                os.close(handle)
                continue
            if has_it or (has_it is None and is_ours):
                _sign(handle)
        except BaseException:
            os.close(handle)
            raise
        if has_it:
            return lambda: _release(lock, handle)
        os.close(handle)
        if has_it is None and is_ours:
            return lambda: lock.unlink(missing_ok=True)
        if has_it is None and _is_gone(_holder(lock)):
            lock.unlink(missing_ok=True)
            continue
        remedy = "" if has_it is False else f" (if that one is gone, delete {lock})"
        raise BeingWrittenError(_sentence(path, lock) + remedy)
    raise BeingWrittenError(_sentence(path, lock))


def _lock(handle: int) -> bool | None:
    """Whether the system gives us the lock of a file; None where it has none to give."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return None
    return True


def _is_at(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(lock))
    except FileNotFoundError:
        return False


def _release(lock: Path, handle: int) -> None:
    # Removed while it is held: who opened it before finds that it is no longer the one at this path.
    lock.unlink(missing_ok=True)
    os.close(handle)


def _sign(handle: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # a full disk: the lock holds, it only does not say whose it is
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(holder).encode())  # at the start: it was opened just now


def _holder(lock: Path) -> dict[str, Any]:
    """Who signed a lock; empty where nobody can tell."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a holder is certainly a process of this machine that has ended."""
    import psutil

    pid = holder.get("pid")
    return isinstance(pid, int) and holder.get("host") == socket.gethostname() and not psutil.pid_exists(pid)


def _sentence(path: StrPath, lock: Path) -> str:
    holder = _holder(lock)
    who = "another process"
    if {"pid", "host", "since"} <= set(holder):
        who = f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
    return f"{path}: is being written by {who}; wait until it has ended, or choose another output"
