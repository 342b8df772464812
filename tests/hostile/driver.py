"""Runs meetings in child processes, a new one after each that died, and counts what came of them.

By hand, for all of them, or for those whose names contain a word: ``python -m tests.hostile.driver [WORD]``
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .registry import Hostile, Subject, load_everything, meetings

_PATIENCE = 90.0
"""Seconds of the clock after which a process that waits (for a pipe, say) has hung; a busy machine is given time."""

# An arena of malloc for every thread would be 64 MiB of address space for each.
_SETTINGS = {"MALLOC_ARENA_MAX": "2", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

GOOD = ("refused", "harmless")


@dataclass(frozen=True)
class Result:
    """What came of a meeting: "refused" or "harmless", or what is wrong, with the message."""

    outcome: str
    message: str

    @property
    def ok(self) -> bool:
        return self.outcome in GOOD


class Child:
    """A process of `child.py`, and its answers."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_SETTINGS, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.seen: set[str] = set()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, **job: object) -> Result:
        """Send a job and wait for what comes of it; "hang" or "crash" where the process is gone after it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job, default=str) + "\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=_PATIENCE)
        except queue.Empty:
            self.close()
            return Result("hang", "waits for something that does not come")
        if line:
            return Result(*json.loads(line))
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")[-700:]
        return Result("hang" if status == -signal.SIGPROF else "crash", f"ended with {status}: {said}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class Driver:
    """Meetings, written and run when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}
        self._goods: dict[str, Path] = {}
        self._child: Child | None = None
        self.results: dict[tuple[str, str], Result] = {}

    def _path(self, file: Hostile) -> Path:
        key = f"{file.kind}/{file.name}"
        if key not in self._paths:
            folder = self._folder / "bad" / key
            folder.mkdir(parents=True)
            self._paths[key] = file.write(folder)
        return self._paths[key]

    def _good(self, kind: str) -> Path:
        if kind not in self._goods:
            from . import goods

            folder = self._folder / "good" / kind
            folder.mkdir(parents=True)
            self._goods[kind] = goods.write(kind, folder)
        return self._goods[kind]

    def meet(self, file: Hostile, subject: Subject) -> Result:
        """Run one meeting."""
        path, good = self._path(file), self._good(file.kind)
        out = self._folder / "out" / subject.name / file.kind / file.name
        (out / "warm").mkdir(parents=True)
        if self._child is None or not self._child.alive:
            self._child = Child()
        if f"{subject.name}/{file.kind}" not in self._child.seen:
            self._child.seen.add(f"{subject.name}/{file.kind}")
            warm = self._child.ask(subject=subject.name, warm=True, good=good, out=out / "warm")
            if warm.outcome != "warm":
                raise RuntimeError(f"{subject.name} fails on a good {file.kind}: {warm}")
        result = self._child.ask(
            subject=subject.name, warm=False, file=f"{file.kind}/{file.name}", path=path, good=good, out=out
        )
        self.results[f"{file.kind}/{file.name}", subject.name] = result
        return result

    def close(self) -> None:
        if self._child is not None:
            self._child.close()


def summary(results: dict[tuple[str, str], Result]) -> str:
    """The counts in one line."""
    counts = Counter(result.outcome for result in results.values())
    files, subjects = ({key[i] for key in results} for i in (0, 1))
    found = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return f"hostile files: {len(files)} met {len(subjects)} readers and commands, {len(results)} meetings: {found}"


def main(words: Iterable[str]) -> int:
    load_everything()
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(Path(folder))
        for file, subject in meetings():
            name = f"{file.kind}/{file.name}-{subject.name}"
            if any(word not in name for word in words):
                continue
            result = driver.meet(file, subject)
            if not result.ok:
                sys.stdout.write(f"{name}: {result.outcome}: {' '.join(result.message.split())[:300]}\n")
                sys.stdout.flush()
        driver.close()
        sys.stdout.write(summary(driver.results) + "\n")
    return 0 if all(result.ok for result in driver.results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
