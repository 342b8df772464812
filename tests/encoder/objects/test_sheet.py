from gmn_encoder.objects import CLASS_NAMES
from gmn_encoder.objects.sheet import object_sheet


def test_a_class_a_row_over_white():
    sheet = object_sheet(per_class=2, tile=16)
    assert sheet.size == (32, 16 * len(CLASS_NAMES)) and sheet.mode == "RGB"
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    rows = [sheet.crop((0, 16 * i, 32, 16 * i + 16)) for i in range(len(CLASS_NAMES))]
    assert all(len(row.getcolors()) > 5 for row in rows)  # each has an object
    other = object_sheet(per_class=1, first_seed=1, tile=16)
    assert other.tobytes() == sheet.crop((16, 0, 32, sheet.height)).tobytes()
