import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy
from gmn_encoder.rendering.voxels import voxel_centers
from llana_gmn.commands import main


@pytest.fixture
def nerf(tmp_path):
    """A NeRF directory: fog of random colours in a grid that holds a ball."""
    directory = tmp_path / "nerf"
    fog = Nerf.random({"family": "mlp", "hidden_layers": 1, "hidden_dim": 16}, seed=1)
    save_nerf(Nerf(fog.architecture, {key: tensor * 8 for key, tensor in fog.tensors.items()}), directory)
    write_occupancy(OccupancyGrid(voxel_centers().norm(dim=-1) < 0.4), directory / "grid.pth")
    return directory


def test_a_view_shows_what_the_grid_holds(nerf, tmp_path):
    assert main(["render", str(nerf), "--out", str(tmp_path / "view.png"), "--size", "32"]) == 0
    image = np.array(Image.open(tmp_path / "view.png"))
    assert image.shape == (32, 32, 3)
    assert image[0, 0].tolist() == [255, 255, 255] and image[16, 16].tolist() != [255, 255, 255]


def test_contact_sheet_and_turntable(nerf, tmp_path):
    options = ["--size", "16", "--background", "transparent"]
    assert main(["render", str(nerf), "--out", str(tmp_path / "sheet.png"), "--views", "4", *options]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (32, 32) and sheet.mode == "RGBA" and sheet.getpixel((0, 0))[3] == 0
    assert main(["render", str(nerf), "--out", str(tmp_path / "turn.gif"), "--views", "3", *options]) == 0
    with Image.open(tmp_path / "turn.gif") as turn:
        assert turn.n_frames == 3


def test_without_a_grid_the_density_is_looked_at(nerf, tmp_path, monkeypatch, capsys):
    (nerf / "grid.pth").unlink()
    asked = []

    def looked(nerf, *, resolution, progress):
        asked.append(nerf.source)
        return OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool))

    monkeypatch.setattr("gmn_encoder.rendering.occupancy.nerf_occupancy", looked)
    out = tmp_path / "view.png"
    assert main(["render", str(nerf / "nerf_weights.pth"), "--out", str(out), "--size", "8"]) == 0
    assert asked == [nerf / "nerf_weights.pth"]
    assert bool((np.array(Image.open(out)) == 255).all())
    assert "nothing in it is dense enough" in capsys.readouterr().err


def test_points_of_the_surface(nerf, tmp_path, capsys):
    whole = Nerf.random({"family": "mlp", "hidden_layers": 1, "hidden_dim": 16}, seed=1)
    weights = {key: tensor * 60 for key, tensor in whole.tensors.items()}
    save_nerf(Nerf(whole.architecture, weights), nerf)
    out, ply = tmp_path / "cloud.npy", tmp_path / "cloud.ply"
    options = ["--count", "500", "--unit-sphere"]
    assert main(["render", str(nerf), "--points", str(out), *options]) == 0
    cloud = np.load(out)
    assert cloud.shape == (500, 6) and np.linalg.norm(cloud[:, :3], axis=1).max() == pytest.approx(1, abs=1e-5)
    assert main(["render", str(nerf), "--points", str(ply), "--out", str(tmp_path / "v.png"), "--size", "8"]) == 0
    assert ply.read_bytes().startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 8192\n")
    assert (tmp_path / "v.png").is_file()
    write_occupancy(OccupancyGrid(torch.zeros(96, 96, 96, dtype=torch.bool)), nerf / "grid.pth")
    capsys.readouterr()
    assert main(["render", str(nerf), "--points", str(tmp_path / "none.ply")]) == 1
    err = capsys.readouterr().err
    assert "nothing in it is dense enough to be seen; expected an object" in err and err.count("\n") == 1
    assert not (tmp_path / "none.ply").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "a.jpg"], "unknown extension"),
        (["--out", "a.png", "--views", "0"], "0 views"),
        (["--out", "a.png", "--size", "0"], "--size is 0"),
        (["--out", "a.png", "--background", "blue"], "three numbers"),
        (["--out", "a.png", "--device", "quantum"], "--device is 'quantum'"),
        (["--points", "a.obj"], "unknown kind '.obj' of a point cloud"),
        (["--points", "a.ply", "--count", "0"], "--count is 0"),
        ([], "nothing to write; name a picture with --out, or a point cloud with --points"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_done(nerf, capsys, monkeypatch, tmp_path, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["render", str(nerf), *options]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.glob("a.*"))


def test_broken_inputs_are_named(nerf, capsys, tmp_path):
    assert main(["render", str(tmp_path / "nowhere"), "--out", str(tmp_path / "a.png")]) == 1
    assert "nowhere" in capsys.readouterr().err
    (nerf / "grid.pth").write_bytes(b"not a grid")
    assert main(["render", str(nerf), "--out", str(tmp_path / "a.png")]) == 1
    assert "grid.pth" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
