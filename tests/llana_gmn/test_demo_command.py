"""The demo on what ships, and on objects that a user brings."""

from __future__ import annotations

import re

import pytest

from gmn_encoder.fitting import presets, quality
from llana_gmn.commands import main
from tests.encoder.fitting.test_single import CUBE, image_folder
from tests.encoder.nerfs.importers.files import blob_checkpoint


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


def assert_alone(page):
    """Nothing that a browser would fetch: the only addresses are those of attributions, as text."""
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|<script|<link""", page)


def test_demo(capsys, out):
    """On what ships: descriptions must name more classes than one that was said without a NeRF."""
    assert main(["demo", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {
        line.split()[0]: [float(x) for x in line.split()[1:]] for line in lines if line[:4] in ("MLP ", "TRI ", "HASH")
    }
    assert list(rows) == ["MLP", "TRI", "HASH"]
    for procedural, real, blind, bleu, rouge in rows.values():
        assert procedural > 30 and procedural > 3 * blind and real > blind
        assert bleu > 40 and rouge > 40
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 80 and len(page) < 6 << 20
    assert_alone(page)
    pictures = re.findall(r"<figcaption><b>(.*?)</b>", page)
    assert pictures[0] == "t-SNE of the embeddings" and len(pictures) == 4
    assert all(title.startswith("Retrieval: ") for title in pictures[1:])


def test_demo_without_its_nerfs(capsys, tmp_path):
    assert main(["demo", "--nerfs", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 1
    assert "objects.json: no such file" in capsys.readouterr().err


def test_objects_of_a_users_own_and_what_is_wrong_with_others(capsys, tmp_path, out, monkeypatch):
    quick = {**presets._BY_PRESET["nano"], "iterations": 60, "views": 8, "size": 32}
    monkeypatch.setitem(presets._BY_PRESET, "nano", quick)
    monkeypatch.setattr("llana_eval.demo.own_objects._SIZE", 32)  # barely fitted NeRFs are fog, which is slow to render
    (tmp_path / "my cube.ply").write_text(CUBE)
    (tmp_path / "report.ply").write_text(CUBE)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my cube.ply").write_text(CUBE)
    (tmp_path / "notes.txt").write_text("x")
    image_folder(tmp_path / "cup", size=24)
    monkeypatch.setattr("gmn_encoder.fitting.distil_object._VIEWS", 12)
    monkeypatch.setitem(quality.LEAST_PSNR, "nano", 8.0)  # nor do they end where a fit does
    fields = [str(blob_checkpoint(tmp_path / "blob.ckpt")), str(tmp_path / "notes.txt")]
    names = ["absent.glb", "notes.txt", "my cube.ply", "other/my cube.ply", "report.ply", "other"]
    meshes = [str(tmp_path / name) for name in names]
    images = [str(tmp_path / name) for name in ("other", "notes.txt", "cup")]
    cache = tmp_path / "cache"
    arguments = ["demo", "--mesh", meshes[0], "--images", *images, "--mesh", *meshes[1:], "--out", str(out)]
    assert main([*arguments, "--field", *fields, "--cache", str(cache)]) == 1
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("llana-gmn demo: ")]
    for error, expected in zip(
        errors,
        (
            "absent.glb: no such file or directory; expected a mesh",
            "notes.txt: unknown extension '.txt' for a mesh; expected one of .glb",
            "other/my cube.ply: its page my_cube.html would be written over that of",
            "report.ply: its page report.html would be written over the demo's own report; expected another name",
            "other: is a directory; expected a mesh file (--images takes folders)",
            "other: is a directory without a camera file; expected one of",
            "notes.txt: is a file; expected a directory with images and transforms.json (--mesh takes files)",
            "notes.txt: no importer knows what this is; expected a radiance field of another program",
        ),
        strict=True,
    ):
        assert expected in error
    assert "Traceback" not in said.err
    for name in ("my_cube", "cup", "blob"):
        page = (out / f"{name}.html").read_text()
        assert_alone(page)
        pictures = re.findall(r"<figcaption><b>(.*?)</b>", page)
        assert pictures == ["As it was given", "As MLP", "As TRI", "As HASH", pictures[-1]]
        answers = re.search(rf"^{name}: what the model says\n.*\n.*\n((?:.+\n)+)", said.out, re.M)[1].splitlines()
        answers, about = answers[:3], " ".join(answers[3:])
        assert about in page
        if name == "my_cube":
            assert "z is taken to point up" in about and "Measured on the views, to compare: " in about
        assert [line.split()[0] for line in answers] == ["MLP", "TRI", "HASH"]
        for line in answers:
            for answer in re.split(r"\s{2,}", line)[2:]:
                assert answer.endswith(".") and answer in page  # what is printed is what is shown
        for family in ("mlp", "triplane", "hash"):
            assert len(list(cache.glob(f"*/{family}/own/{name}/nerf_weights.pth"))) == 1
    assert said.out.count("Nearest of the NeRFs that ship") == 3
