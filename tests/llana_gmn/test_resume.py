"""Every cell of the table in docs/resume.md: a command is run, something it depends on changes in its place, it is run again."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gmn_encoder.embeddings.job import EmbeddingJob
from gmn_encoder.files import read_tensors
from gmn_encoder.locks import LOCK_NAME, output_lock
from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn.commands import main
from tests.llana_gmn import resume_jobs as jobs

PAGE = (Path(__file__).parents[2] / "docs/resume.md").read_text(encoding="utf-8")
TABLE = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
COLUMNS = TABLE[0][1:]
ROWS = {
    row[0].replace("`", ""): dict(zip(COLUMNS, row[1:], strict=True))
    for row in TABLE[2:]
    if len(row) == len(TABLE[0]) and set(row[1:]) <= {"kept", "redone", "refused", "-"}
}
SLOW = {"train, finished", "train, interrupted", "train-encoder", "evaluate", "fit"}


def _marks(row, column):
    return [pytest.mark.slow] if row in SLOW and column != "content of an input" else []


CASES = [
    pytest.param(row, column, marks=_marks(row, column), id=f"{row}: {column}")
    for row, cells in ROWS.items()
    for column, cell in cells.items()
    if cell != "-" and row != "demo"
]


@pytest.fixture
def job(request, tmp_path, tiny_folder, nerfs, small_encoder, language_data):
    row = request.param
    name, _, state = row.partition(", ")
    if name in ("caption", "evaluate", "score --judge"):
        return getattr(jobs, name.replace(" --", "_"))(tmp_path, tiny_folder, nerfs)
    if name == "embed":
        return jobs.embed(tmp_path, small_encoder, interrupted=state == "interrupted")
    if name == "train":
        return jobs.train(tmp_path, tiny_folder, language_data, interrupted=state == "interrupted")
    if name in ("fit", "train-encoder"):
        return getattr(jobs, name.replace("-", "_"))(tmp_path)
    return getattr(jobs, name.split(" ")[0])(tmp_path, small_encoder)


def counted(method, found):
    def spy(*args, **kwargs):
        found.append(1)
        return method(*args, **kwargs)

    return spy


@pytest.fixture
def made(monkeypatch):
    """A list that grows by one for every result, or step towards one, that is made."""
    found = []
    for name in jobs.SPIES:
        module, cls, method = name.rsplit(".", 2)
        owner = getattr(importlib.import_module(module), cls)

        monkeypatch.setattr(owner, method, counted(getattr(owner, method), found))
    monkeypatch.setattr("gmn_encoder.embeddings.job.CHUNK_SIZE", 1)
    monkeypatch.setattr("gmn_encoder.digests.SETTLED_SECONDS", 0)  # what was looked at is remembered at once
    return found


class Interrupted(BaseException):
    pass


def content(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "digests.json"}


@pytest.mark.parametrize(("job", "column"), CASES, indirect=["job"])
def test_a_cell(request, job, column, made, tmp_path, capsys, caplog, monkeypatch):
    row = request.node.callspec.id.partition(": ")[0]
    expected = ROWS[row][column]
    if row == "embed, interrupted":
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddingJob, "finish", lambda self: (_ for _ in ()).throw(Interrupted))
            with pytest.raises(Interrupted):
                main(job.arguments)
    else:
        assert main(job.arguments) == 0, capsys.readouterr().err
    assert made and (job.total is None or len(made) == job.total)
    job.again()
    time.sleep(0.02)  # longer than the clock of a file system takes to tick
    arguments = job.arguments
    if column != "nothing changed":
        arguments = job.changes[column]() or arguments
    before = content(tmp_path)
    capsys.readouterr()
    caplog.clear()
    made.clear()
    status, said = main(arguments), capsys.readouterr()
    left = 1 if row == "train, interrupted" else 0  # the step that it had not come to
    outcome = "refused" if status else "redone" if len(made) > left else "kept"
    assert outcome == expected, said.err
    if outcome == "refused":
        (line,) = [line for line in said.err.splitlines() if line.startswith("llana-gmn")]
        assert re.search(r"--overwrite|--no-resume|another directory|other encoder|other batch_size", line), line
        kept = {path for path in before if "kept" not in path.parts}  # embeddings of what is there now are no results
        assert {path: data for path, data in content(tmp_path).items() if path in kept} == {p: before[p] for p in kept}
    elif outcome == "redone" and column == "content of an input":
        assert job.total is None or len(made) == job.total // (2 if row == "fit" else job.total)
        if row in ("caption", "evaluate", "embed, interrupted", "retrieve --data"):
            assert re.search(r"\b1 of \d+ .*had changed", said.err + caplog.text)
    if outcome != "refused" and not row.startswith("embed"):
        made.clear()
        assert main(arguments) == 0
        assert not made


@pytest.mark.parametrize("changed", [None, "content", "encoder"])
def test_the_demo(changed, made, tmp_path, small_encoder, golden_encoder):
    """Its embeddings; the rest it makes anew."""
    from llana_eval.demo.common import embed_families

    assert ROWS["demo"] == dict(zip(COLUMNS, ["kept", "redone", "-", "redone", "-"], strict=True))
    for i in range(2):
        save_nerf(Nerf.random("MLP-32H", seed=i), tmp_path / "nerfs" / "mlp" / "c" / f"n{i}" / "nerf.safetensors")
    embed_families(SimpleNamespace(nerf_encoder=small_encoder), tmp_path / "nerfs", tmp_path / "out")
    assert len(made) == 2
    made.clear()
    time.sleep(0.02)
    if changed == "content":
        jobs.other_nerf(tmp_path / "nerfs" / "mlp" / "c" / "n1" / "nerf.safetensors")
    encoder = golden_encoder if changed == "encoder" else small_encoder
    embed_families(SimpleNamespace(nerf_encoder=encoder), tmp_path / "nerfs", tmp_path / "out")
    assert len(made) == {None: 0, "content": 1, "encoder": 2}[changed]


WRITERS = [row for row in ROWS if row not in ("demo", "retrieve --data", "embed, finished", "train, interrupted")]


@pytest.mark.parametrize(
    "job",
    [pytest.param(row, marks=[pytest.mark.slow] if row in SLOW else [], id=row) for row in WRITERS],
    indirect=True,
)
def test_two_writers(request, job, made, tmp_path, capsys):
    """Whoever comes second is told who is first, and touches nothing."""
    row, out = request.node.callspec.id, job.output
    inside = out / LOCK_NAME if row.startswith(("train", "classify")) else None
    file = tmp_path / "out" / ".fit" / "hash-own-cube.lock" if row == "fit" else inside
    with output_lock(out, file=file):
        before = content(tmp_path)
        assert main(job.arguments) == 1
        said = capsys.readouterr().err
        assert f"{out}: is being written by process {os.getpid()} on " in said
        # The other of two objects is fitted, and embeddings that no classifier was trained on yet are kept.
        assert len(made) == {"fit": 3, "classify --data --out": 4}.get(row, 0), said
        now = content(tmp_path)
        assert {path: now[path] for path in before} == before
    made.clear()
    assert main(job.arguments) == 0, capsys.readouterr().err
    assert made


KILLED = """
import importlib, os, signal, sys
module, cls, method, after = sys.argv[1].rsplit(".", 2) + [int(sys.argv[2])]
owner, count = getattr(importlib.import_module(module), cls), 0
original = getattr(owner, method)

def deadly(*args, **kwargs):
    global count
    count += 1
    if count > after:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

setattr(owner, method, deadly)
import gmn_encoder.embeddings.job as job
job.CHUNK_SIZE = 1
from gmn_encoder.fitting.job import FitJob
FitJob.checkpoint_seconds = -1.0
from llana_gmn.commands import main
main(sys.argv[3:])
"""
_FIRST = ["caption", "embed, finished", "fit", "train-encoder", "classify --data --out", "train, finished"]
STEPS = dict(zip(_FIRST, jobs.SPIES, strict=True))
STEPS |= {"evaluate": STEPS["caption"], "score --judge": STEPS["caption"], "retrieve --data": STEPS["embed, finished"]}


@pytest.mark.slow
@pytest.mark.same_bits
@pytest.mark.parametrize("job", STEPS, indirect=True)
def test_kill_9_in_the_middle(request, job, made, tmp_path, capsys):
    """What was killed at the second result is continued: a lock and half-written files are in nobody's way."""
    row = request.node.callspec.id
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, STEPS[row], "1", *job.arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.rglob("*.lock")), "nobody held the output"
    assert main(job.arguments) == 0, capsys.readouterr().err
    assert job.total is None or len(made) < job.total or row == "fit"
    assert list(tmp_path.rglob("*.lock")) == []
    results = {path.name: digest(path) for path in tmp_path.rglob("*") if path.name in RESULTS}
    shutil.rmtree(job.output) if job.output.is_dir() else job.output.unlink(missing_ok=True)
    for beside in job.output.parent.glob(f"{job.output.name}.*"):
        beside.unlink()
    assert main(job.arguments) == 0, capsys.readouterr().err
    assert results and results == {path.name: digest(path) for path in tmp_path.rglob("*") if path.name in RESULTS}


RESULTS = (
    *("c.jsonl", "e.safetensors", "nerf_weights.pth", "model.safetensors", "brief_description_hash.jsonl"),
    *("results_judge_judge.jsonl", "adapter_model.safetensors"),
)


def digest(path):
    return (
        path.stat().st_size,
        path.read_bytes() if path.suffix != ".pth" else [*map(str, read_tensors(path)[0].items())],
    )
