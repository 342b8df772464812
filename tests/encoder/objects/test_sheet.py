from PIL import Image

from gmn_encoder.objects import CLASS_NAMES
from gmn_encoder.objects.sheet import draw_objects


def drawn(out, **settings):
    draw_objects(out=out, tile=16, **settings)
    with Image.open(out) as sheet:
        return sheet.convert("RGB")


def test_a_class_a_row_over_white(tmp_path):
    sheet = drawn(tmp_path / "two.png", per_class=2)
    assert sheet.size == (32, 16 * len(CLASS_NAMES))
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    rows = [sheet.crop((0, 16 * i, 32, 16 * i + 16)) for i in range(len(CLASS_NAMES))]
    assert all(len(row.getcolors()) > 5 for row in rows)  # each has an object
    assert drawn(tmp_path / "one.png", per_class=1, first_seed=1).size == (16, sheet.height)
