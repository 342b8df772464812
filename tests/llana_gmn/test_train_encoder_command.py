"""``llana-gmn train-encoder`` from the outside: what it writes, says and returns, on one process and on two."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gmn_encoder.files import read_tensors
from gmn_encoder.training.representation.recipe import load_recipe
from llana_gmn.commands import main
from tests.encoder.training.representation.conftest import TINY, write_set

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("nerfs"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY.to_dict()))
    assert load_recipe(file) == TINY
    return file


def run(data, out, config, *options):
    return main(["train-encoder", "--data", str(data), "--out", str(out), "--config", str(config), *options])


def test_trains_and_is_opened_by_embed(data, config, tmp_path, capsys):
    out = tmp_path / "encoder"
    assert run(data, out, config, "--loss", "rc", "epochs=1", "--tracker", "tensorboard") == 0
    said = capsys.readouterr()
    assert said.out.startswith("epoch 1: psnr ")
    assert "recall@1" in said.out
    assert "done: 3 steps" in said.err
    assert list(out.glob("llana-gmn-encoder/events.*"))
    nerf = ROOT / "tests/data/golden/nerf/shapenet/hash/02691156"
    embeddings = tmp_path / "embeddings.safetensors"
    assert main(["embed", str(nerf), "--encoder", str(out / "best"), "--out", str(embeddings)]) == 0
    assert embeddings.is_file()


def test_stops_in_time_and_goes_on(data, config, tmp_path, capsys):
    assert run(data, tmp_path, config, "max_seconds=0.0001") == 0
    assert re.search(r"stopped after \d+ s at step 1 of 6", capsys.readouterr().err)
    assert run(data, tmp_path, config) == 0
    assert "continuing at step 1 of 6" in capsys.readouterr().err


def test_says_what_is_wrong(data, config, tmp_path, capsys):
    assert run(data, tmp_path, config, "epoch=3") == 1
    assert run(tmp_path / "nowhere", tmp_path, config) == 1
    assert run(data, tmp_path, tmp_path / "no.yaml") == 1
    with pytest.raises(SystemExit) as stopped:
        run(data, tmp_path, config, "--loss", "x")
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("llana-gmn train-encoder:")]
    assert len(lines) == 4
    assert "unknown setting 'epoch'" in lines[0]
    assert "nowhere" in lines[1]
    assert "no such recipe file" in lines[2]
    assert "invalid choice: 'x'" in lines[3]


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_their_batches_together(data, config, tmp_path):
    """Two processes with two NeRFs each see the pairs of one with four: gradients are the same up to rounding."""
    assert run(data, tmp_path / "one", config, "epochs=1") == 0
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'encoder'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    options = ["--data", str(data), "--out", str(tmp_path / "two"), "--config", str(config), "epochs=1", "batch_size=2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "llana_gmn"]
    done = subprocess.run(
        [*command, "train-encoder", *options], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (read_tensors(tmp_path / name / "last" / "trainer.pth")[0] for name in ("one", "two"))
    assert two["processes"] == 2
    assert two["step"] == one["step"] == 3
    difference = max(
        float((one[part][key] - two[part][key]).abs().max()) for part in ("encoder", "decoder") for key in one[part]
    )
    assert difference < 1e-4
