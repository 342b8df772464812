"""The benchmark of fits in its tiny form, its choice of meshes, and sheets of previews."""

import pytest
from PIL import Image

from gmn_encoder.fitting import bench
from gmn_encoder.fitting.sheet import draw_fits
from gmn_encoder.objects import ViewSettings


def test_tiny_run_fits_and_keeps_its_nerfs(tmp_path):
    (result,) = bench.bench(**bench.TINY, work=tmp_path, device="cpu")
    figures = result.figures
    (row,), (nerf,) = figures["summary"], figures["nerfs"]
    assert row["architecture"] == "MLP-nano" and row["objects"] == 1 and row["psnr_mean"] == nerf["psnr"]
    assert figures["failed"] == [] and figures["settings"]["MLP-nano"]["iterations"] == 20
    assert "| MLP-nano | nano | 1 |" in result.text
    (again,) = bench.bench(**bench.TINY, work=tmp_path, device="cpu")
    assert again.figures["nerfs"] == figures["nerfs"]  # seconds too: nothing was fitted again
    draw_fits(tmp_path, out=tmp_path / "sheets")
    (file,) = (tmp_path / "sheets").iterdir()
    with Image.open(next(tmp_path.glob("mlp/*/*/preview.png"))) as preview, Image.open(file) as sheet:
        assert file.name == "fit_mlp.png" and sheet.size == preview.size


def test_meshes_are_taken_from_each_class_by_turns(tmp_path):
    for class_name, count in {"chair": 3, "lamp": 1, "car": 2, "other": 4}.items():
        (tmp_path / class_name).mkdir()
        for number in range(count):
            (tmp_path / class_name / f"{number}.obj").touch()
    sources = bench.choose_sources(str(tmp_path), 5, seed=0, views=ViewSettings())
    classes = [source.name.split("/")[-2] for source in sources]
    assert sorted(classes[:3]) == ["car", "chair", "lamp"] and sorted(classes[3:]) == ["car", "chair"]
    names = [source.name for source in sources]
    assert [s.name for s in bench.choose_sources(str(tmp_path), 5, seed=0, views=ViewSettings())] == names
    assert len(bench.choose_sources(str(tmp_path), 99, seed=0, views=ViewSettings())) == 6


def test_summary_by_hand():
    records = [
        {"name": "MLP", "psnr": 30.0, "seconds": 1.0, "cpu_seconds": 2.0},
        {"name": "MLP", "psnr": 20.0, "seconds": 3.0, "cpu_seconds": 4.0},
        {"name": "TRI", "psnr": 25.0, "seconds": 5.0, "cpu_seconds": 5.0},
    ]
    assert [list(row.values()) for row in bench.summary(records)] == [
        ["MLP", 2, 25.0, pytest.approx(20.5), 2.0, 3.0],
        ["TRI", 1, 25.0, 25.0, 5.0, 5.0],
    ]


def test_a_directory_without_previews_has_no_sheet(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no previews"):
        draw_fits(tmp_path)
