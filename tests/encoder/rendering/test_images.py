import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder.rendering.compositing import Rendering
from gmn_encoder.rendering.images import contact_sheet, parse_background, save_images, to_images


def views():
    """Two views of 2x2 pixels: red at opacities 1, 0.5, 0 and 1."""
    opacity = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]).repeat(2, 1, 1)
    colour = torch.zeros(2, 2, 2, 3)
    colour[..., 0] = opacity  # premultiplied
    return Rendering(colour, opacity, torch.zeros_like(opacity))


def test_pictures_over_a_background():
    image = np.array(to_images(views(), torch.tensor([0.0, 0.0, 1.0]))[0])
    assert image.tolist() == [[[255, 0, 0], [128, 0, 128]], [[0, 0, 255], [255, 0, 0]]]


def test_transparent_pictures_keep_colours_undivided_by_nothing():
    image = np.array(to_images(views())[1])
    assert image.tolist() == [[[255, 0, 0, 255], [255, 0, 0, 128]], [[0, 0, 0, 0], [255, 0, 0, 255]]]


def test_contact_sheets_fill_rows_in_order():
    images = [Image.new("RGB", (4, 3), (40 * number, 0, 0)) for number in range(5)]
    sheet = contact_sheet(images)
    assert sheet.size == (12, 6)
    assert [sheet.getpixel((4 * (n % 3), 3 * (n // 3)))[0] for n in range(6)] == [0, 40, 80, 120, 160, 0]
    assert contact_sheet(images, columns=5).size == (20, 3)
    with pytest.raises(ValueError, match="no pictures"):
        contact_sheet([])


def test_files_read_back(tmp_path):
    save_images(to_images(views()), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4, 2) and sheet.mode == "RGBA" and sheet.getpixel((1, 0)) == (255, 0, 0, 128)
    for background, shown in ((torch.ones(3), (255, 255, 255, 255)), (None, None)):
        save_images(to_images(views(), background), tmp_path / "turn.gif", seconds=1)
        with Image.open(tmp_path / "turn.gif") as turn:
            assert turn.info["loop"] == 0
            frame = turn.convert("RGBA")
            assert frame.getpixel((0, 0)) == (255, 0, 0, 255)
            assert frame.getpixel((0, 1)) == shown if shown else frame.getpixel((0, 1))[3] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.png", "turn.gif"]


@pytest.mark.parametrize(
    ("text", "expected"), [("transparent", None), ("1,0.5,0", [1, 0.5, 0]), (" 0, 0,0 ", [0, 0, 0])]
)
def test_backgrounds(text, expected):
    background = parse_background(text)
    assert background is None if expected is None else background.tolist() == expected


@pytest.mark.parametrize("text", ["white", "1,1", "1,1,2", "nan,0,0", ""])
def test_bad_backgrounds_are_refused(text):
    with pytest.raises(ValueError, match="three numbers"):
        parse_background(text)


def test_unknown_extensions_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'.jpg'.*expected .png or .gif"):
        save_images(to_images(views()), tmp_path / "a.jpg")
