"""How speed and memory are measured, and what a measurement leaves behind: a JSON and a Markdown file.

A benchmark is the function ``bench`` of a room's `bench` module. It takes its settings as keywords and yields a `Result` whenever
there is more to keep; the last one holds everything. ``TINY`` beside it has the settings of a dry run, which takes seconds on a
CPU, shows that everything runs, and has figures that mean nothing. `run_benchmark` gives both a command line.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import torch

from .command_line import argument_parser
from .files import StrPath, write_bytes, write_json

logger = logging.getLogger(__name__)

RESULTS = Path("benchmarks", "results")
Clock = Callable[[], float]
T = TypeVar("T")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux's account of this process


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a benchmark found.

    Attributes:
        what: the benchmark's name, the beginning of the names of its files.
        title: the heading of the Markdown file.
        about: the machine and the settings, as `about_run` returns them.
        figures: measured numbers, for the JSON file beside `about`.
        text: the measured numbers in Markdown.
        variant: a word that tells results of one day apart, such as the size of the model; "" for none.
    """

    what: str
    title: str
    about: Mapping[str, Any]
    figures: Mapping[str, Any]
    text: str
    variant: str = ""

    def markdown(self) -> str:
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        return f"# {self.title}\n\n{about}\n\n{self.text}"

    def write(self, folder: StrPath, *, dry_run: bool = False) -> Path:
        """Write ``<what>-<date>-<variant>-<cpu or cuda>.json`` and ``.md``, each atomically.

        Args:
            folder: the directory of the files.
            dry_run: write the word into the files and their names, so that nobody takes the figures for a measurement.

        Returns:
            the path of the JSON file.
        """
        kind = self.about["device_type"]
        words = [self.what, self.about["date"], self.variant, "dry-run" if dry_run else "", kind]
        stem = Path(folder, "-".join(filter(None, words)))
        json_file, markdown_file = Path(f"{stem}.json"), Path(f"{stem}.md")
        write_json({**self.about, "dry_run": dry_run, **self.figures}, json_file)
        note = "A dry run: figures mean nothing.\n\n" if dry_run else ""
        write_bytes((note + self.markdown()).encode(), markdown_file)
        return json_file


def run_benchmark(
    bench: Callable[..., Iterator[Result]],
    arguments: Sequence[str] | None = None,
    *,
    tiny: Mapping[str, Any],
    options: Callable[..., Any] | None = None,
) -> Result:
    """Run a benchmark from its command line, write every result, and show the last one on stdout.

    Args:
        bench: the benchmark; what the command line does not name stays at the benchmark's own default.
        arguments: words of the command line; None for those of this process.
        tiny: settings of a dry run, which ``--tiny`` takes in place of the defaults.
        options: the class or function that documents the settings, see `command_line`; None for `bench` itself.

    Returns:
        the last result.

    Raises:
        ValueError: the benchmark measured nothing.
    """
    parser = argument_parser(options or bench)
    parser.add_argument("--threads", type=int, help="number of CPU threads that torch uses (default: torch's own)")
    parser.add_argument("--out", type=Path, help=f"folder for the JSON and Markdown files (default: {RESULTS})")
    parser.add_argument("--tiny", action="store_true", help="dry run in seconds, figures mean nothing")
    given = vars(parser.parse_args(arguments))
    out, dry_run, threads = given.pop("out", RESULTS), given.pop("tiny", False), given.pop("threads", None)
    if threads is not None:
        torch.set_num_threads(threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    last = None
    for last in bench(**{**(tiny if dry_run else {}), **given}):  # after each: a run that is stopped keeps what it has
        logger.info("%s is written", last.write(out, dry_run=dry_run))
    if last is None:
        raise ValueError("nothing was measured; the benchmark was given nothing to work on")
    sys.stdout.write(last.markdown())
    return last


def pick_device(device: torch.device | str | None = None) -> torch.device:
    """The device named, or else the accelerator if there is one, or else the CPU."""
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return torch.device(device)


def about_run(device: torch.device, **settings: Any) -> dict[str, Any]:
    """Date, device, threads, load, torch and commit of a run, and the settings that are given."""
    return {
        "date": date.today().isoformat(),
        "device": device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "commit": _commit(),
        **settings,
    }


def device_name(device: torch.device) -> str:
    """The model of a GPU or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of this file's repository, "unknown" for an installed copy."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def timed(run: Callable[[], T], device: torch.device, *, clock: Clock = time.perf_counter) -> tuple[T, float]:
    """What `run` returns, and the seconds it took on `device`, whose queue is empty before and after."""
    _wait(device)
    start = clock()
    result = run()
    _wait(device)
    return result, clock() - start


def alternate(
    cases: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Median and best seconds of several cases, each run once a round so that a slow minute of the machine hits all of them.

    Args:
        cases: functions by name; a first round warms up and is not counted.
        repeats: number of counted rounds, at least 1.
        device: the device whose work is waited for.
        clock: function that returns seconds; `time.process_time` for those of this process alone.

    Returns:
        name -> ``{"median": seconds, "best": seconds}``.
    """
    for run in cases.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            times[name].append(timed(run, device, clock=clock)[1])
    return {name: {"median": statistics.median(values), "best": min(values)} for name, values in times.items()}


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def extra_memory(run: Callable[[], T], device: torch.device) -> tuple[T, float | None]:
    """What `run` returns, and the MiB by which it lifts the peak of memory over what is held before.

    None for the latter where the system does not tell.
    """
    before = reset_peak_memory(device)
    result = run()
    peak = peak_memory(device)
    return result, None if before is None or peak is None else peak - before


def reset_peak_memory(device: torch.device) -> float | None:
    """Forget the peak so far; the MiB held now: of a GPU's allocations, or resident in this process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak_memory(device: torch.device) -> float | None:
    """The most MiB held at once since the peak was last forgotten; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _status("VmHWM")


def _status(name: str) -> float | None:
    lines = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns in a new process with as many threads, where neither memory nor caches of this one count.

    Function, arguments and result must be picklable: functions of modules, plain values.
    """
    context = multiprocessing.get_context("spawn")
    threads = (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, mp_context=context, initializer=torch.set_num_threads, initargs=threads) as pool:
        return pool.submit(function, *arguments).result()


def markdown_table(columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, ending in a newline.

    Args:
        columns: heading -> format specification of its numbers, such as ``.2f``; "" for words and counts.
        rows: rows of cells, one for each column; words and None (an empty cell) stand in any column.
    """

    def cell(value: Any, form: str) -> str:
        return "" if value is None else value if isinstance(value, str) else format(value, form)

    lines = [list(columns), ["---:" if form else "---" for form in columns.values()]]
    lines += [[cell(value, form) for value, form in zip(row, columns.values(), strict=True)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
