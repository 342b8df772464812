"""One writer of an output at a time, whoever dies how."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from gmn_encoder import locks
from gmn_encoder.locks import LOCK_NAME, BeingWrittenError, output_lock

HOLDER = """
import sys, time
from gmn_encoder import locks
if sys.argv[2] == "presence":
    locks._lock = lambda handle: None
with locks.output_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["system", "presence"])
def kind(request, monkeypatch):
    """Locks of the system, and where there are none."""
    if request.param == "presence":
        monkeypatch.setattr(locks, "_lock", lambda handle: None)
    return request.param


@pytest.fixture
def holder(kind, tmp_path):
    """Another process that holds ``tmp_path/out.jsonl``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out.jsonl"), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_is_named_and_taken_over_from_when_it_is_killed(holder, kind, tmp_path):
    path = tmp_path / "out.jsonl"
    named = rf"out.jsonl: is being written by process {holder.pid} on {socket.gethostname()} \(since .*\); wait until"
    for _ in range(2):
        with pytest.raises(BeingWrittenError, match=named), output_lock(path):
            pass
    with output_lock(path, hold=False):  # another process of the same job
        pass
    with output_lock(tmp_path / "other.jsonl"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".out.jsonl.lock").is_file()  # it could not tidy up
    with output_lock(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_is_let_go_of_however_the_block_ends(kind, tmp_path):
    path = tmp_path / "new" / "out"
    with pytest.raises(KeyError), output_lock(path, file=path / LOCK_NAME):
        with (
            pytest.raises(BeingWrittenError, match=f"process {os.getpid()} on"),
            output_lock(path, file=path / LOCK_NAME),
        ):
            pass
        raise KeyError
    assert not path.exists()  # it was made for the lock
    with output_lock(path, file=path / LOCK_NAME):
        (path / "result").write_text("x")
    assert [each.name for each in path.iterdir()] == ["result"]


def test_a_lock_of_another_machine_is_not_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_lock", lambda handle: None)
    lock = tmp_path / ".out.lock"
    lock.write_text(json.dumps({"pid": 1 << 22, "host": "elsewhere", "since": "2026-01-01 12:00:00"}))
    named = r"on elsewhere .*if that one is gone, delete .*/\.out\.lock"
    with pytest.raises(BeingWrittenError, match=named), output_lock(tmp_path / "out"):
        pass
    lock.write_text("no signature")
    with pytest.raises(BeingWrittenError, match="by another process; wait"), output_lock(tmp_path / "out"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    import errno
    import fcntl

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with output_lock(tmp_path / "out"), pytest.raises(BeingWrittenError), output_lock(tmp_path / "out"):
        pass


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="out: cannot be written"), output_lock(tmp_path / "file" / "out"):
        pass
