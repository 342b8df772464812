import pytest
import torch
from PIL import Image

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.rendering.camera_files import write_cameras
from gmn_encoder.rendering.cameras import sphere
from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy
from gmn_encoder.rendering.pictures import fitted_image, nerf_picture


def test_view_is_the_first_image_on_white_or_a_rendering(tmp_path):
    (tmp_path / "a" / "train").mkdir(parents=True)
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))  # transparent but for the left half
    picture.paste((255, 0, 0, 255), (0, 0, 10, 20))
    picture.save(tmp_path / "a" / "train" / "00.png")
    shown = nerf_picture(tmp_path / "a", size=20)
    assert shown.getpixel((2, 10)) == (255, 0, 0) and shown.getpixel((17, 10)) == (255, 255, 255)
    save_nerf(Nerf.random("MLP-32H"), tmp_path / "b")
    occupied = torch.zeros(1, 96, 96, 96, dtype=torch.bool)
    occupied[:, 40:56, 40:56, 40:56] = True
    write_occupancy(OccupancyGrid(occupied), tmp_path / "b" / "grid.pth")
    assert nerf_picture(tmp_path / "b", size=16).size == (16, 16)
    (tmp_path / "c" / "train").mkdir(parents=True)
    (tmp_path / "c" / "train" / "00.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00.png: is no picture"):
        nerf_picture(tmp_path / "c", size=16)


def test_of_several_images_the_one_from_obliquely_in_front_is_shown(tmp_path):
    cameras = sphere(24, size=8, seed=0)
    write_cameras(cameras, tmp_path / "transforms_train.json")
    (tmp_path / "train").mkdir()
    for view in range(24):
        Image.new("RGB", (8, 8), (view, 0, 0)).save(tmp_path / "train" / f"{view:02d}.png")
    place = cameras.camera_to_world[int(fitted_image(tmp_path).stem), :3, 3]
    assert place[0] > 0 and place[1] < 0 and 0 < place[2] < 1.2  # beside the front (-y), not from above
    for view in range(1, 24):
        (tmp_path / "train" / f"{view:02d}.png").unlink()
    assert fitted_image(tmp_path) is None  # the first is from above
    assert fitted_image(tmp_path / "none") is None
