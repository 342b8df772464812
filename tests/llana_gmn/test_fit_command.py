import pytest

from gmn_encoder import load_nerf
from llana_gmn.commands import main

TINY = ["--views", "6", "--size", "40", "--iterations", "2"]


def test_fit_makes_nerfs_of_several_families_and_names_what_failed(tmp_path, capsys):
    bad = tmp_path / "bad.obj"
    bad.write_text("v 0 0 0\n")
    status = main(
        [
            "fit",
            str(bad),
            "procedural:1",
            str(tmp_path / "none"),
            "--family",
            "mlp,hash",
            "--out",
            str(tmp_path / "out"),
            *TINY,
            "--device",
            "cpu",
            "--share-init",
        ]
    )
    captured = capsys.readouterr()
    assert status == 1
    assert len(captured.err.strip().splitlines()) == 2
    assert "bad.obj" in captured.err and "none: no such file" in captured.err
    for family in ("mlp", "hash"):
        (directory,) = (tmp_path / "out" / family).glob("*/*")
        assert load_nerf(directory).family == family
    assert captured.out.count("held-out views") == 2
    again = ["fit", "procedural:1", "--family", "mlp,hash", "--out", str(tmp_path / "out"), *TINY, "--device", "cpu"]
    assert main([*again, "--share-init"]) == 0
    assert capsys.readouterr().out.count("finished before") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--family", "cube"], "--family is 'cube'"),
        (["--architecture", "HASH-9"], "unknown architecture 'HASH-9'"),
        (["--quality", "best"], "unknown quality 'best'"),
        (["--size", "0"], "size is 0"),
        (["--batch", "0"], "batch is 0"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_wrong_options_are_said(tmp_path, capsys, options, message):
    assert main(["fit", "procedural:1", "--out", str(tmp_path), *options]) == 1
    assert message in capsys.readouterr().err
