import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder import Nerf, load_nerf, save_nerf
from gmn_encoder.nerfs.architectures import NerfArchitecture
from gmn_encoder.nerfs.families import MlpArchitecture
from llana_gmn.commands import COMMANDS, build_parser, load_command, main
from tests.conftest import GOLDEN, GOLDEN_NERF
from tests.encoder.nerfs.importers.files import blob_checkpoint

ENCODER = str(GOLDEN / "ckpts" / "golden" / "best.pt")


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def nerf_file(tmp_path):
    return save_nerf(Nerf.random("MLP-32H"), tmp_path / "good.safetensors")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith(load_command(name).example)
    assert load_command(name).example.startswith(f"llana-gmn {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name):
    assert build_parser().parse_args(load_command(name).example.split()[1:]).command == name


def test_help_needs_no_torch():
    code = "import sys; from llana_gmn.commands import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_usage(capsys):
    for arguments in ([], ["nonsense"], ["embed", "--encoder"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


def test_inspect_text(capsys):
    status, out, err = run(capsys, "inspect", GOLDEN_NERF["TRI"])
    assert (status, err) == (0, "")
    assert "family        triplane" in out
    assert "3,584 nodes, 77,824 edges" in out


def test_inspect_json_goes_on_after_a_broken_file(capsys, tmp_path, nerf_file):
    (tmp_path / "broken.pth").write_bytes(b"x" * 100)
    status, out, err = run(
        capsys, "inspect", nerf_file, tmp_path / "broken.pth", tmp_path / "absent", GOLDEN_NERF["HASH"], "--json"
    )
    assert status == 1
    first, last = json.loads(out)
    assert first["architecture"] == "MLP-32H"
    assert last["graph"] == {"nodes": 16624, "edges": 43008}
    assert last["tensors"]["encoding.params"]["max"] == pytest.approx(
        float(load_nerf(GOLDEN_NERF["HASH"]).tensors["encoding.params"].max())
    )
    assert len(err.strip().splitlines()) == 2
    assert "broken.pth" in err
    assert "absent" in err


def test_inspect_a_family_without_a_graph(capsys, nerf_file, monkeypatch):
    monkeypatch.setattr(MlpArchitecture, "add_blocks", NerfArchitecture.add_blocks)
    status, out, err = run(capsys, "inspect", nerf_file)
    assert (status, err) == (0, "") and "graph         none" in out
    assert json.loads(run(capsys, "inspect", nerf_file, "--json")[1])[0]["graph"] is None


def test_inspect_a_field_of_another_program(capsys, tmp_path):
    status, out, err = run(capsys, "inspect", blob_checkpoint(tmp_path / "blob.ckpt"))
    assert (status, err) == (0, "") and "kind          nerf-pytorch checkpoint (krrish94)" in out
    assert "colours       depend on the direction; their mean over 16 where none is given" in out
    (said,) = json.loads(run(capsys, "inspect", tmp_path / "blob.ckpt", "--json")[1])
    assert said["view_dependent"] and said["averaged_directions"] == 16


def test_embed(capsys, tmp_path, nerf_file):
    out = tmp_path / "embeddings.safetensors"
    status, _, err = run(
        capsys, "embed", nerf_file, tmp_path / "absent", GOLDEN_NERF["MLP"], "--encoder", ENCODER, "--out", out
    )
    assert status == 1
    assert "absent: no such file" in err
    assert "2 embeddings" in err
    golden = load_file(GOLDEN / "embeddings.safetensors")["MLP.f64"].float()
    torch.testing.assert_close(load_file(out)["embeddings"][1], golden, rtol=1e-5, atol=1e-6)
    status, _, err = run(capsys, "embed", nerf_file, "--encoder", ENCODER, "--out", out)
    assert status == 1
    assert "exists already" in err


def test_embed_a_split(capsys, tmp_path):
    split, root = GOLDEN / "nerf" / "shapenet" / "test.txt", GOLDEN / "nerf" / "shapenet" / "mlp"
    assert (
        run(capsys, "embed", "--split", split, "--root", root, "--encoder", ENCODER, "--out", tmp_path / "h5")[0] == 0
    )
    assert [path.name for path in (tmp_path / "h5").iterdir()] == ["0.h5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NERF", "--encoder", "absent.pt"], "absent.pt: no such file"),
        (["NERF", "--encoder", "NERF"], "holds no GMN encoder"),
        (["--encoder", ENCODER], "no NeRF given"),
        (["NERF", "--encoder", ENCODER, "--batch-size", "0"], "--batch-size must be at least 1"),
        (["--split", "absent.txt", "--encoder", ENCODER], "absent.txt: is no readable list"),
    ],
)
def test_embed_bad_input(capsys, tmp_path, nerf_file, arguments, message):
    arguments = [str(nerf_file) if argument == "NERF" else argument for argument in arguments]
    status, _, err = run(capsys, "embed", *arguments, "--out", tmp_path / "out.npz")
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out.npz*"))


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(
            [
                "embed",
                str(tmp_path),
                "--encoder",
                str(tmp_path / "absent.pt"),
                "--out",
                str(tmp_path / "o.npz"),
                "--debug",
            ]
        )


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_ctrl_c_keeps_what_is_done(tmp_path):
    for i in range(40):
        save_nerf(Nerf.random("TRI-16W", seed=i), tmp_path / "nerfs" / f"{i:02d}.safetensors")
    command = [
        sys.executable,
        "-m",
        "llana_gmn",
        "embed",
        tmp_path / "nerfs",
        "--encoder",
        ENCODER,
        "--out",
        tmp_path / "o.npz",
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
        # Where the tests run in the background, their children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "o.npz.partial").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip().endswith("interrupted; what was finished is kept, the same command continues")
    assert "Traceback" not in err
    assert not (tmp_path / "o.npz").exists()


@pytest.mark.same_bits
def test_two_processes_share_the_work(tmp_path):
    for i in range(3):
        save_nerf(Nerf.random("MLP-32H", seed=i), tmp_path / "nerfs" / f"{i}.safetensors")
    command = ["-m", "llana_gmn", "embed", tmp_path / "nerfs", "--encoder", ENCODER, "--out"]
    alone = [sys.executable, *command, tmp_path / "alone.safetensors"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        *command,
        tmp_path / "two.safetensors",
    ]
    for line in (alone, launch):
        done = subprocess.run(list(map(str, line)), env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("3 embeddings") == 1
    assert (tmp_path / "alone.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
