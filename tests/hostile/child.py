"""The process in which readers and commands meet hostile files: little memory, little time, one meeting after another.

The limit is on memory that can be written (RLIMIT_DATA): it is what an allocation asks for, whether it is touched or not, so a
claim of 13 GiB is seen at once and on any machine, while libraries and files that are mapped to be read do not count. Each
meeting gets what the process has at that moment and `MEMORY` more. A processor timer ends the process after `SECONDS` of work,
which no code can catch, so a busy neighbour changes nothing.

Reads meetings as JSON lines from stdin, one at a time, and answers each with a line.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from .registry import CORPUS, MEMORY, SECONDS, SUBJECTS, Hostile, Subject, load_everything

_REFUSALS = (ValueError, TypeError, OSError, ImportError)
"""What readers raise on bad input, and commands report."""

_OUT_OF_MEMORY = re.compile(r"MemoryError|allocate|out of memory", re.IGNORECASE)
_LONGEST = 700


def data_size() -> int:
    """Bytes of memory of this process that can be written."""
    (kilobytes,) = re.findall(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) << 10


def limit(on: bool) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (data_size() + MEMORY if on else hard, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS if on else 0)


def names(message: str, path: Path) -> bool:
    """Whether a message says which input it is about: the file, or one in the directory."""
    return str(path) in message or path.name in message


def judged(message: str, path: Path) -> tuple[str, str]:
    """What a refusal is worth."""
    if _OUT_OF_MEMORY.search(message):
        return "memory", message
    if not names(message, path):
        return "unnamed", message
    if len(message) > _LONGEST or "\n" in message.strip():
        return "no sentence", message
    return "refused", message


def read(subject: Subject, path: Path) -> tuple[str, str]:
    try:
        subject.call(path)
    except _REFUSALS as error:
        return judged(str(error), path)
    except MemoryError as error:
        return "memory", repr(error)
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "accepted", ""


def run(subject: Subject, path: Path, good: Path, out: Path) -> tuple[str, str]:
    from llana_gmn.commands import main

    argv = [str(each) for each in subject.call(path, good, out)]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        kept = os.dup(1), os.dup(2)
        sys.stdout.flush()
        os.dup2(stdout.fileno(), 1)
        os.dup2(stderr.fileno(), 2)
        try:
            status: Any = main(argv)
        except SystemExit as error:
            status = error.code
        except MemoryError as error:
            return "memory", repr(error)
        except BaseException as error:
            return "traceback", f"{type(error).__name__}: {error}"
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, before in enumerate(kept, 1):
                os.dup2(before, number)
                os.close(before)
        stdout.seek(0)
        stderr.seek(0)
        printed, said = (file.read().decode(errors="replace") for file in (stdout, stderr))
    if "Traceback (most recent call last)" in said:
        return "traceback", said[-_LONGEST:]
    if status not in (0, 1, 2):
        return "traceback", f"exit status {status}: {said[-_LONGEST:]}"
    if status == 0:
        return "accepted", said[-_LONGEST:]
    lines = [line for line in said.splitlines() if line.startswith("llana-gmn ") and names(line, path)]
    if len(lines) != 1:
        return ("no sentence" if lines else "unnamed"), said[-_LONGEST:]
    if subject.done is not None and not subject.done(good, out, printed):
        return "others left", said[-_LONGEST:]
    return judged(lines[0], path)


_OF_THE_ENCODER = ("open_encoder_of_model", "inspect_model")
"""Readers of a model's configuration and encoder alone: what is wrong elsewhere is not theirs to see."""


def meet(file: Hostile, subject: Subject, path: Path, good: Path, out: Path) -> tuple[str, str]:
    """One meeting: what came of it, and the message."""
    limit(on=True)
    try:
        outcome, message = run(subject, path, good, out) if subject.is_command else read(subject, path)
    finally:
        limit(on=False)
    harmless = file.harmless if isinstance(file.harmless, bool) else subject.name in file.harmless
    if outcome == "accepted" and (harmless or subject.name in _OF_THE_ENCODER):
        return "harmless", message
    return outcome, message


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.simplefilter("ignore")
    load_everything()
    import llana_gmn.commands  # noqa: F401 (what every meeting imports is not its own)

    for line in sys.stdin:
        job = json.loads(line)
        subject = SUBJECTS[job["subject"]]
        if job["warm"]:  # the good input alone, without a limit: imports and caches are nobody's fault
            try:
                good, out = Path(job["good"]), Path(job["out"])
                if subject.is_command:
                    run(subject, good, good, out)
                else:
                    subject.call(good)
                outcome, message = "warm", ""
            except BaseException as error:
                outcome, message = "traceback", f"{type(error).__name__}: {error}"
        else:
            outcome, message = meet(
                CORPUS[job["file"]], subject, Path(job["path"]), Path(job["good"]), Path(job["out"])
            )
        answers.write(json.dumps([outcome, message]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
