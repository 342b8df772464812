"""Whatever a stranger's file does to the process that reads it, the server goes on."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from llana_gmn.web.isolation import Isolation, JobError

from . import strange_jobs


@pytest.fixture(scope="module")
def isolation():
    return Isolation(memory=400 << 20, modules=[strange_jobs.__name__])


def test_jobs_know_nothing_of_each_other(isolation):
    first, second = (isolation.run("know", {"said": said}, seconds=60) for said in ("é", "</s>"))
    assert [first["said"], second["said"]] == ["é", "</s>"]
    assert len({first["process"], second["process"], os.getpid()}) == 3


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("greedy", "needs more than the 400 MiB of memory"),
        ("crash", "reading it ended unexpectedly"),
        ("vanish", "reading it ended unexpectedly"),
        ("broken", "cannot be read; it is broken"),
        ("deep", "needs more than the 400 MiB"),
        ("refuse", "the file is green; expected a red one"),
    ],
)
def test_what_goes_wrong_is_a_sentence(isolation, job, message):
    with pytest.raises(JobError, match=message) as error:
        isolation.run(job, {}, seconds=60)
    assert "/a/path" not in str(error.value)
    assert isolation.run("know", {"said": 1}, seconds=60)["said"] == 1


def test_endless_work_ends_and_leaves_no_process(isolation):
    before, steps = set(children()), []
    with pytest.raises(JobError, match=r"took longer than 0\.5 s"):
        isolation.run("endless", {}, seconds=0.5, progress=lambda *step: steps.append(step))
    assert steps[0] == ("turning in circles", 1, 2)
    assert set(children()) <= before


def test_closing_ends_what_is_in_work():
    isolation, said = Isolation(memory=400 << 20, modules=[strange_jobs.__name__]), []

    def work():
        try:
            isolation.run("endless", {}, seconds=600, progress=lambda *step: started.set())
        except JobError as error:
            said.append(str(error))

    started = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(120)
    isolation.close()
    thread.join(60)
    assert said == ["the server is ending; come back later"]


def test_the_server_keeps_its_memory(isolation):
    def used():
        return int(Path("/proc/self/statm").read_text().split()[1])

    isolation.run("know", {"said": ""}, seconds=60)
    before = used()
    with pytest.raises(JobError):
        isolation.run("greedy", {}, seconds=60)
    assert used() - before < 4096  # pages, 16 MiB


def children():
    """Processes whose parent is the one that forks for this process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if b"forkserver" in (process / "cmdline").read_bytes() and fields[0] != "Z":
                found.append(int(process.name))
        except OSError:
            continue
    time.sleep(0)
    return found
