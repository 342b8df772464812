"""What benchmarks share: times, memory, files of results, the command line."""

import json
import os
from collections.abc import Sequence

import pytest
import torch

from gmn_encoder.benchmarking import (
    Result,
    about_run,
    alternate,
    extra_memory,
    in_fresh_process,
    markdown_table,
    pick_device,
    run_benchmark,
    timed,
)

CPU = torch.device("cpu")
TINY = {"size": 1, "words": ["a"]}


class Clock:
    """Time that passes only when work is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        durations = iter(seconds)

        def run():
            self.now += next(durations)
            return self.now

        return run


def test_seconds_are_those_between_start_and_end_of_the_work():
    clock = Clock()
    assert timed(clock.work(2.5), CPU, clock=clock) == (2.5, 2.5)


def test_cases_alternate_after_a_warm_up_that_does_not_count():
    clock, order = Clock(), []
    slow, fast = clock.work(100, 3, 5, 4), clock.work(100, 1, 1, 7)
    cases = {"slow": lambda: order.append("slow") or slow(), "fast": lambda: order.append("fast") or fast()}
    times = alternate(cases, repeats=3, device=CPU, clock=clock)
    assert times == {"slow": {"median": 4, "best": 3}, "fast": {"median": 1, "best": 1}}
    assert order == ["slow", "fast"] * 4


def hold_16_and_lift_by_64_mib():
    kept = torch.ones(1 << 22)
    total, found = extra_memory(lambda: torch.ones(1 << 24).sum().item(), CPU)
    return total, found, kept.sum().item()


def test_extra_memory_is_the_peak_over_what_is_held():
    # In a process of its own: here the allocator may still hold what other tests let go.
    total, found, kept = in_fresh_process(hold_16_and_lift_by_64_mib)
    if found is None:
        pytest.skip("this system does not tell its peak of memory")
    assert 62 < found < 80 and total == 1 << 24 and kept == 1 << 22


def process():
    return os.getpid(), torch.get_num_threads()


def test_a_fresh_process_is_another_one_with_as_many_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        number, threads = in_fresh_process(process)
    finally:
        torch.set_num_threads(before)
    assert number != os.getpid() and threads == 3


def test_table_formats_numbers_and_leaves_words_and_gaps():
    table = markdown_table({"way": "", "seconds": ".2f"}, [["fast", 1 / 3], ["slow", None], ["count", 2]])
    assert table.splitlines() == [
        "| way | seconds |",
        "| --- | ---: |",
        "| fast | 0.33 |",
        "| slow |  |",
        "| count | 2.00 |",
    ]


def bench(words: Sequence[str] = ("b", "c"), *, size: int = 10, device: str | None = None):
    for count in range(1, len(words) + 1):
        about, figures = about_run(pick_device(device), size=size), {"words": list(words[:count])}
        yield Result(what="thing", variant="v1.5", title="Things", about=about, figures=figures, text="|x|\n")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_results_are_written_with_what_was_measured_where(tmp_path, capsys):
    result = run_benchmark(bench, ["--out", str(tmp_path), "--device", "cpu", "--size", "3"], tiny=TINY)
    stem = f"thing-{result.about['date']}-v1.5-cpu"
    assert files(tmp_path) == [f"{stem}.json", f"{stem}.md"]
    found = json.loads((tmp_path / f"{stem}.json").read_text())
    about = {"date", "device", "device_type", "threads", "load", "torch", "commit", "size", "dry_run"}
    assert set(found) == {*about, "words"}
    assert (found["size"], found["words"], found["dry_run"]) == (3, ["b", "c"], False)
    assert found["commit"] and found["device"] and found["torch"] == torch.__version__
    text = (tmp_path / f"{stem}.md").read_text()
    assert capsys.readouterr().out == text
    assert text.startswith("# Things\n\n") and text.endswith("\n\n|x|\n") and "size 3" in text


def test_a_dry_run_takes_the_tiny_settings_and_cannot_be_taken_for_a_measurement(tmp_path):
    result = run_benchmark(bench, ["--tiny", "--device", "cpu", "--out", str(tmp_path)], tiny=TINY)
    assert (result.about["size"], result.figures) == (1, {"words": ["a"]})
    assert all("-dry-run-cpu." in name for name in files(tmp_path))
    assert json.loads(next(tmp_path.glob("*.json")).read_text())["dry_run"] is True
    given = run_benchmark(bench, ["--tiny", "--size", "2", "--out", str(tmp_path)], tiny=TINY)
    assert given.about["size"] == 2  # what is named stands before the tiny settings


def test_a_run_that_stops_keeps_what_it_has(tmp_path):
    def stopped(**settings):
        yield next(bench(**settings))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(stopped, ["--out", str(tmp_path)], tiny=TINY)
    assert json.loads(next(tmp_path.glob("*.json")).read_text())["words"] == ["b"]


def test_a_benchmark_of_nothing_says_so(tmp_path):
    with pytest.raises(ValueError, match="nothing was measured"):
        run_benchmark(lambda **_: iter(()), ["--out", str(tmp_path)], tiny=TINY)
