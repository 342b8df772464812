import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open

from gmn_encoder import MlpArchitecture, Nerf, load_nerf, save_nerf
from gmn_encoder.embeddings import job as embedding_jobs
from gmn_encoder.embeddings.files import EMBEDDINGS_KEY, content_hash
from gmn_encoder.embeddings.job import EmbeddingJob
from tests.conftest import GOLDEN

TINY = [MlpArchitecture(hidden_dim=16, hidden_layers=1), MlpArchitecture(hidden_dim=16, hidden_layers=2)]


@pytest.fixture
def files(tmp_path):
    """Seven NeRFs of two architectures and a broken file in fourth place."""
    paths = [
        save_nerf(Nerf.random(TINY[i % 2], seed=i), tmp_path / "02691156" / f"id{i}" / "nerf.safetensors")
        for i in range(7)
    ]
    broken = tmp_path / "broken.pth"
    broken.write_text("no weights")
    return [*paths[:3], broken, *paths[3:]]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(embedding_jobs, "CHUNK_SIZE", 2)


def run(job):
    job.run()
    return job.finish()


def test_result_keeps_order_and_names_failures(tmp_path, files, small_encoder):
    told = []
    job = EmbeddingJob(files, small_encoder, out=tmp_path / "out.safetensors")
    job.run(progress=lambda *given: told.append(given))
    result = job.finish()
    good = [path for path in files if path.name != "broken.pth"]
    torch.testing.assert_close(
        result.values, small_encoder.encode([load_nerf(path) for path in good]), rtol=1e-5, atol=1e-6
    )
    assert list(result.paths) == [str(path) for path in good]
    assert len(result.problems) == 1
    assert "broken.pth" in result.problems[0]
    assert told == [("embedding NeRFs", done, 8) for done in (0, 2, 4, 6, 8)]
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("embeddings"), result.values)
        assert file.get_tensor("indices").tolist() == [0, 1, 2, 4, 5, 6, 7]
        about = json.loads(file.metadata()[EMBEDDINGS_KEY])
    assert about["class_ids"] == ["02691156"] * 7
    assert about["nerf_ids"][3] == "id3"
    assert about["encoder"] == small_encoder.fingerprint()
    assert about["hashes"] == [content_hash(path) for path in good]
    assert not (tmp_path / "out.safetensors.partial").exists()


def test_npz_and_h5(tmp_path, files, small_encoder):
    expected = run(EmbeddingJob(files, small_encoder, out=tmp_path / "out.safetensors"))
    run(EmbeddingJob(files, small_encoder, out=tmp_path / "out.npz"))
    run(EmbeddingJob(files, small_encoder, out=tmp_path / "h5"))
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["embeddings"], expected.values, rtol=1e-5, atol=1e-6)
        assert arrays["nerf_ids"].tolist() == [f"id{i}" for i in range(7)]
    names = sorted(path.name for path in (tmp_path / "h5").iterdir())
    assert names == [f"{i}.h5" for i in (0, 1, 2, 4, 5, 6, 7)]
    released = h5py.File(GOLDEN / "emb" / "golden" / "shapenet" / "mlp" / "test" / "0.h5")
    with h5py.File(tmp_path / "h5" / "4.h5") as file:
        assert set(file) == set(released)
        assert all(file[key].dtype == released[key].dtype for key in file)
        assert all(file[key].ndim == released[key].ndim for key in file)
        assert file["nerf_id"].asstr()[()] == "id3"
        np.testing.assert_allclose(file["embedding"][()], expected.values[3], rtol=1e-5, atol=1e-6)
    released.close()


@pytest.mark.same_bits
def test_interrupted_job_continues_to_the_same_file(tmp_path, files, small_encoder):
    run(EmbeddingJob(files, small_encoder, out=tmp_path / "whole.safetensors"))

    class Stopped(Exception):
        pass

    def stop_at_second(_, done, total):
        if done == 4:
            raise Stopped

    job = EmbeddingJob(files, small_encoder, out=tmp_path / "out.safetensors")
    with pytest.raises(Stopped):
        job.run(progress=stop_at_second)
    done = sorted(path.name for path in job.partial.glob("chunk-*"))
    assert done == ["chunk-000000.safetensors", "chunk-000001.safetensors"]
    before = {name: (job.partial / name).stat().st_mtime_ns for name in done}
    again = EmbeddingJob(files, small_encoder, out=tmp_path / "out.safetensors")
    again.run()
    assert {name: (job.partial / name).stat().st_mtime_ns for name in done} == before
    again.finish()
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.same_bits
def test_shares_of_processes_make_the_same_file(tmp_path, files, small_encoder):
    run(EmbeddingJob(files, small_encoder, out=tmp_path / "one.safetensors"))
    jobs = [EmbeddingJob(files, small_encoder, out=tmp_path / "three.safetensors") for _ in range(3)]
    totals = {}
    for rank, job in enumerate(jobs):
        job.run(rank=rank, world_size=3, progress=lambda _, done, total, rank=rank: totals.update({rank: total}))
    assert totals == {0: 4, 1: 2, 2: 2}
    jobs[0].finish()
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "three.safetensors").read_bytes()


@pytest.mark.same_bits
def test_other_jobs_and_existing_outputs_are_not_touched(tmp_path, files, small_encoder):
    out = tmp_path / "out.safetensors"
    EmbeddingJob(files, small_encoder, out=out)
    with pytest.raises(FileExistsError, match="unfinished job with other paths"):
        EmbeddingJob(files[:2], small_encoder, out=out)
    with pytest.raises(FileExistsError, match="unfinished job with other dtype"):
        EmbeddingJob(files, small_encoder, out=out, dtype=torch.bfloat16)
    run(EmbeddingJob(files, small_encoder, out=out))
    content = out.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        EmbeddingJob(files, small_encoder, out=out)
    run(EmbeddingJob(files, small_encoder, out=out, overwrite=True))
    assert out.read_bytes() == content


@pytest.mark.same_bits
def test_files_that_changed_since_are_embedded_again(tmp_path, files, small_encoder, caplog):
    out = tmp_path / "out.safetensors"

    class Stopped(Exception):
        pass

    def stop_at_6(_, done, total):
        if done == 6:
            raise Stopped

    job = EmbeddingJob(files, small_encoder, out=out)
    with pytest.raises(Stopped):
        job.run(progress=stop_at_6)
    save_nerf(Nerf.random(TINY[0], seed=100), files[0])  # fitted anew in the same place
    save_nerf(Nerf.random(TINY[1], seed=101), files[3].with_suffix(".safetensors")).rename(files[3])  # no longer broken
    times = {chunk.name: chunk.stat().st_mtime_ns for chunk in job.partial.glob("chunk-*")}
    found = EmbeddingJob(files, small_encoder, out=out)
    told = []
    found.run(progress=lambda _, done, total: told.append(done))
    assert told[0] == 2  # of three chunks, one has no file that changed
    assert caplog.messages == ["2 of 6 NeRFs that were embedded already had changed since; they are embedded again"]
    kept = [name for name, time in times.items() if (job.partial / name).stat().st_mtime_ns == time]
    assert kept == ["chunk-000002.safetensors"]
    found.finish()
    run(EmbeddingJob(files, small_encoder, out=tmp_path / "whole.safetensors"))
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_an_embedding_without_numbers_is_an_error_of_its_file(tmp_path, files, small_encoder, monkeypatch):
    encode = type(small_encoder).encode
    spoil = torch.tensor([[1.0], [float("inf")]])
    monkeypatch.setattr(type(small_encoder), "encode", lambda *a, **k: encode(*a, **k) * spoil)
    result = run(EmbeddingJob(files[:2], small_encoder, out=tmp_path / "out.safetensors"))
    assert result.paths == (str(files[0]),)
    (problem,) = result.problems
    assert problem.startswith(f"{files[1]}: its embedding has NaN or infinite values (its weights reach ")


def test_outputs_that_cannot_be(tmp_path, files, small_encoder):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        EmbeddingJob(files, small_encoder, out=tmp_path / "file" / "out.safetensors")
    with pytest.raises(ValueError, match=r"unknown kind '\.csv'"):
        EmbeddingJob(files, small_encoder, out=tmp_path / "out.csv")
    with pytest.raises(ValueError, match="no NeRF to embed"):
        EmbeddingJob([], small_encoder, out=tmp_path / "out.npz")


def test_nothing_readable_writes_nothing(tmp_path, files, small_encoder):
    result = run(EmbeddingJob([files[3], tmp_path / "absent"], small_encoder, out=tmp_path / "out.safetensors"))
    assert len(result.problems) == 2 and len(result) == 0
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "out.safetensors.partial").exists()


KILLED = """
import sys, time
from gmn_encoder import GmnEncoder
from gmn_encoder.embeddings import job as embedding_jobs
embedding_jobs.CHUNK_SIZE = 1
job = embedding_jobs.EmbeddingJob(sys.argv[3:], GmnEncoder.from_pretrained(sys.argv[1]), out=sys.argv[2])
job.run(progress=lambda *given: (print(given, flush=True), time.sleep(0.2)))
job.finish()
"""


@pytest.mark.same_bits
def test_kill_9_loses_no_finished_chunk(tmp_path, files, small_encoder, monkeypatch):
    small_encoder.save_pretrained(tmp_path / "encoder")
    arguments = [tmp_path / "encoder", tmp_path / "out.safetensors", *files]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)], stdout=subprocess.PIPE, env=environment
    )
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "out.safetensors").exists()
    monkeypatch.setattr(embedding_jobs, "CHUNK_SIZE", 1)
    chunks = list((tmp_path / "out.safetensors.partial").glob("chunk-*"))
    assert 3 <= len(chunks) < len(files)
    start = time.time()
    run(EmbeddingJob([str(path) for path in files], small_encoder, out=tmp_path / "out.safetensors"))
    assert all(chunk.stat().st_mtime < start for chunk in chunks if chunk.exists())
    run(EmbeddingJob([str(path) for path in files], small_encoder, out=tmp_path / "whole.safetensors"))
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_nerf_that_the_encoder_refuses_leaves_the_others(tmp_path, files, small_encoder, monkeypatch):
    """One whose field is finite where it is looked at first, and not where the encoder asks it."""
    encode, given = type(small_encoder).encode, []

    def refusing(self, nerfs, **options):
        given.append(len(nerfs))
        for nerf in nerfs:
            if nerf.source == files[4]:
                raise ValueError(f"{nerf.name}: its field has NaN or infinite values at 3 of 1024 points")
        return encode(self, nerfs, **options)

    monkeypatch.setattr(type(small_encoder), "encode", refusing)
    names = [path.parent.name for path in files]
    result = run(EmbeddingJob(files, small_encoder, out=tmp_path / "out.npz", names=names))
    assert list(result.paths) == [
        name for name, path in zip(names, files, strict=True) if path not in (files[3], files[4])
    ]
    assert "id3: its field has NaN or infinite values at 3 of 1024 points" in result.problems
    assert result.object_ids[0] == ("02691156", "id0") and 1 in given  # one by one, where the refused one is
    alone = EmbeddingJob([files[4]], small_encoder, out=tmp_path / "none.npz")
    assert len(run(alone)) == 0
