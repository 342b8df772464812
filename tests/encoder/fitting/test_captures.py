"""Capture folders as other people have them: the object is found, images of any kind are read, what is wrong is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from gmn_encoder.fitting.captures import read_capture
from gmn_encoder.fitting.extent import focus, placed, sees_box
from gmn_encoder.fitting.placement import PlacementRequest
from gmn_encoder.fitting.quality import least_psnr, shortfall
from gmn_encoder.objects.mesh import RADIUS
from gmn_encoder.rendering.cameras import look_at, sphere

from .capture_folders import elsewhere, in_a_room, pictures_of, upper_cameras, write_folder

pytest.importorskip("embreex")

SHARED = Path(os.environ.get("LLANA_GMN_SHARED", Path(__file__).parents[4] / "shared")) / "foreign"
CENTER = (5.0, -2.0, 11.0)


@pytest.fixture(scope="module")
def taken():
    """Twenty-four cameras above an object and what they see, never changed."""
    cameras = upper_cameras(24, 48)
    return cameras, pictures_of(cameras)


def edit(folder, change):
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


def reach_of(posed):
    """How far from the origin the hull goes along each axis."""
    from gmn_encoder.rendering.voxels import voxel_centers

    return voxel_centers()[posed.hull(torch.device("cpu")).binary[0]].norm(dim=1).max().item()


@pytest.mark.parametrize(("scale", "y_up"), [(0.01, False), (2.7, True), (400.0, False)])
def test_the_object_is_found_wherever_it_is_and_the_way_back_is_recorded(tmp_path, taken, scale, y_up):
    cameras, images = taken
    posed = read_capture(
        write_folder(tmp_path / "a", elsewhere(cameras, scale=scale, center=CENTER, y_up=y_up), images), "c", "n"
    )
    assert 0.85 * RADIUS < reach_of(posed) < 1.1 * RADIUS
    placement = posed.placement
    assert placement.up == ((0, 1, 0) if y_up else (0, 0, 1))
    # Objects of the catalogue fill the sphere of RADIUS about the origin; a hull of some views is a little larger.
    assert 0.75 < placement.scale * scale <= 1.0
    assert np.abs(np.array(placement.center) - CENTER).max() < 0.2 * scale
    assert (posed.cameras.camera_to_world[:, 2, 3] > 0).all()
    back = placement.to_source(placed(cameras, placement).camera_to_world[:, :3, 3].double())
    torch.testing.assert_close(back, cameras.camera_to_world[:, :3, 3].double(), atol=1e-4 * scale + 1e-5, rtol=1e-5)
    recorded = placement.to_dict()
    assert {"center", "scale", "up", "turn", "found_by", "meaning"} <= set(recorded) and json.dumps(recorded)


def test_what_stands_in_the_box_stays_and_what_is_said_wins(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", cameras, images)
    assert read_capture(folder, "c", "n").placement.scale == 1.0
    asked = PlacementRequest(scale=0.5, up=(0.0, 1.0, 0.0), center=(0.1, 0.0, 0.0))
    placement = read_capture(folder, "c", "n", placement=asked).placement
    assert (placement.scale, placement.up, placement.center) == (0.5, (0, 1, 0), (0.1, 0, 0))
    partly = read_capture(folder, "c", "n", placement=PlacementRequest(scale=0.5)).placement
    assert partly.scale == 0.5 and np.abs(partly.center).max() < 0.15


@pytest.mark.parametrize(
    ("coefficients", "fisheye"), [([-0.2, 0.05, 0, 0, 0.002, -0.001], False), ([0.02, -0.01, 0.003, 0, 0, 0], True)]
)
def test_lenses_are_kept_and_their_hull_is_that_of_the_object(tmp_path, taken, coefficients, fisheye):
    cameras = upper_cameras(24, 48, coefficients=coefficients, fisheye=fisheye, shift=(0.03, -0.04))
    posed = read_capture(write_folder(tmp_path / "a", cameras, pictures_of(cameras)), "c", "n")
    assert posed.cameras.lens.fisheye.all().item() is fisheye
    plain = read_capture(write_folder(tmp_path / "b", *taken), "c", "n")
    ours, theirs = (each.hull(torch.device("cpu")).binary for each in (posed, plain))
    assert (ours & theirs).sum() > 0.8 * (ours | theirs).sum()


def test_focus_by_hand():
    positions = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 1.0, 4.0]])
    pose = look_at(positions)
    pose[:, :3, 3] += torch.tensor([1.0, 2.0, 3.0])
    cameras = sphere(3, size=8)
    cameras = type(cameras)(pose, cameras.focal, cameras.principal_point, 8, 8)
    torch.testing.assert_close(focus(cameras), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), atol=1e-5, rtol=0)
    assert sees_box(sphere(3, size=8)).all() and not sees_box(cameras)[0]


def test_masks_and_what_they_ignore(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", cameras, images, background=(90, 160, 90))
    (folder / "masks").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 3]).save(folder / "masks" / f"{number}.png")
    edit(folder, lambda c: [f.update(mask_path=f"masks/{n}.png") for n, f in enumerate(c["frames"])])
    moving = np.zeros((48, 48), np.uint8)
    moving[:10] = 255
    Image.fromarray(moving).save(folder / "images" / "dynamic_mask_0003.png")
    posed = read_capture(folder, "c", "n")
    assert posed.background is None
    assert torch.equal(posed.images[0, ..., 3], torch.from_numpy(images[0, ..., 3]))
    assert not posed.known[3, :10].any() and posed.known[3, 10:].all() and posed.known[2].all()
    edit(folder, lambda c: c["frames"][1].pop("mask_path"))
    with pytest.raises(ValueError, match=r"1 of 24 images have neither opacity nor a mask"):
        read_capture(folder, "c", "n")
    edit(folder, lambda c: c["frames"][1].update(mask_path="masks/none.png"))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such mask"):
        read_capture(folder, "c", "n")


def test_alpha_files_of_instant_ngp(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", cameras, images, background=(90, 160, 90))
    for number, image in enumerate(images):
        Image.fromarray(image[..., 3]).save(folder / "images" / f"{number:04d}.alpha.png")
    posed = read_capture(folder, "c", "n")
    assert torch.equal(posed.images[0, ..., 3], torch.from_numpy(images[0, ..., 3]))


def test_smaller_images_carry_their_intrinsics(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", elsewhere(cameras, scale=2.0, center=CENTER), images)
    (folder / "images_2").mkdir()
    for file in sorted((folder / "images").iterdir()):
        with Image.open(file) as image:
            image.reduce(2).save(folder / "images_2" / file.name)
        file.unlink()
    posed = read_capture(folder, "c", "n")
    assert (posed.cameras.width, posed.cameras.height) == (24, 24)
    torch.testing.assert_close(posed.cameras.focal[0], cameras.focal[0] / 2)


def test_sixteen_bits_grey_and_palettes(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", cameras, images)
    grey = (images[0, ..., 0].astype(np.uint16) * 257, images[1, ..., 0], images[2])
    Image.fromarray(grey[0]).save(folder / "images" / "0000.png")
    Image.fromarray(grey[1]).save(folder / "images" / "0001.png")
    Image.fromarray(grey[2]).quantize(64).save(folder / "images" / "0002.png")
    masks = [Image.fromarray(image[..., 3]) for image in images]
    for number in range(24):
        masks[number].save(folder / "images" / f"{number:04d}.alpha.png")
    posed = read_capture(folder, "c", "n")
    assert torch.equal(posed.images[0, ..., 1], torch.from_numpy(images[0, ..., 0]))
    assert torch.equal(posed.images[1, ..., 2], torch.from_numpy(images[1, ..., 0]))
    shown = torch.from_numpy(images[2, ..., 3] == 255)
    assert (posed.images[2, ..., :3].int() - torch.from_numpy(images[2, ..., :3]).int())[shown].abs().float().mean() < 8


def test_orientation_is_applied_where_only_the_turned_size_fits(tmp_path, taken):
    _, images = taken
    cameras = upper_cameras(24, 48).resized(40, 48)
    upright = images[:, :, 4:44]
    folder = write_folder(tmp_path / "a", cameras, upright)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored turned: a viewer turns it by 90 degrees clockwise
    for number, image in enumerate(upright):
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(image)))
        turned.save(folder / "images" / f"{number:04d}.png", exif=exif)
    posed = read_capture(folder, "c", "n", placement=PlacementRequest(center=(0, 0, 0), scale=1))
    assert torch.equal(posed.images[0], torch.from_numpy(np.ascontiguousarray(upright[0])))
    edit(folder, lambda c: c.update(w=48, h=40))
    stored = read_capture(folder, "c", "n", placement=PlacementRequest(center=(0, 0, 0), scale=1))
    assert stored.images.shape[1:3] == (40, 48)


def test_images_of_several_sizes_are_padded_with_what_is_not_known(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", cameras, images)
    Image.fromarray(images[3]).crop((0, 0, 40, 48)).save(folder / "images" / "0003.png")
    edit(
        folder,
        lambda c: c["frames"][3].update(w=40, h=48, fl_x=c["frames"][3].get("fl_x", 52.5), fl_y=52.5, cx=24, cy=24),
    )
    posed = read_capture(folder, "c", "n")
    assert not posed.known[3, :, 40:].any() and posed.known[3, :, :40].all()
    assert torch.equal(posed.images[3, :, :40], torch.from_numpy(images[3, :, :40]))


def test_large_images_are_made_smaller(tmp_path, taken, monkeypatch):
    from gmn_encoder.fitting import captures

    monkeypatch.setattr(captures, "LARGEST_SIDE", 20)
    posed = read_capture(write_folder(tmp_path / "a", *taken), "c", "n")
    assert (posed.cameras.width, posed.images.shape[1]) == (16, 16)
    torch.testing.assert_close(posed.cameras.focal[0], taken[0].focal[0] / 3)
    assert "images made 3 times smaller" in posed.notes
    monkeypatch.setattr(captures, "LARGEST_SIDE", 1024)
    monkeypatch.setattr(captures, "MOST_PIXELS", 24 * 30 * 30)
    assert read_capture(tmp_path / "a", "c", "n").cameras.width == 24


def test_photographs_of_a_room_have_surroundings(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", elsewhere(cameras, scale=2.0, center=CENTER), in_a_room(images, cameras))
    posed = read_capture(folder, "c", "n")
    assert posed.surrounded and posed.background is None
    assert np.abs(np.array(posed.placement.center) - CENTER).max() < 0.01
    assert posed.placement.scale == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    "name", ["../../outside.png", "/etc/passwd", "..\\..\\outside.png", "https://example.org/a.png", "a\0b"]
)
def test_images_outside_the_folder_are_refused(tmp_path, taken, name):
    folder = write_folder(tmp_path / "x" / "a", *taken)
    Image.new("RGB", (48, 48)).save(tmp_path / "outside.png")
    edit(folder, lambda c: c["frames"][2].update(file_path=name))
    with pytest.raises(ValueError, match="in the folder") as caught:
        read_capture(folder, "c", "n")
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_absolute_paths_inside_and_those_of_another_machine_are_fine(tmp_path, taken):
    folder = write_folder(tmp_path / "a", *taken)
    edit(folder, lambda c: c["frames"][2].update(file_path=str(folder / "images" / "0002.png")))
    edit(folder, lambda c: c["frames"][3].update(file_path="/home/somebody/lego/images/0003.png"))
    edit(folder, lambda c: c["frames"][4].update(file_path="C:\\lego\\images\\0004.png"))
    assert not any("missing" in note for note in read_capture(folder, "c", "n").notes)


def test_an_image_that_claims_too_much_is_refused_before_it_is_decoded(tmp_path, taken):
    folder = write_folder(tmp_path / "a", *taken)
    data = bytearray((folder / "images" / "0001.png").read_bytes())
    data[16:24] = (9_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (folder / "images" / "0001.png").write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"9,000 x 9,000 pixels; at most"):
        read_capture(folder, "c", "n")
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (folder / "images" / "0001.png").write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"0001\.png: claims far more than the 64,000,000 pixels"):
        read_capture(folder, "c", "n")


def test_cameras_that_do_not_belong_to_the_images_are_said(tmp_path, taken):
    cameras, images = taken
    folder = write_folder(tmp_path / "a", cameras, images)
    with pytest.raises(ValueError, match="no camera has the place of the object"):
        read_capture(folder, "c", "n", placement=PlacementRequest(center=(0, 0, 100), scale=0.1))
    away = cameras.camera_to_world.clone()
    away[:, :3, 0], away[:, :3, 2] = -away[:, :3, 0], -away[:, :3, 2]
    cameras = type(cameras)(away, cameras.focal, cameras.principal_point, 48, 48)
    with pytest.raises(ValueError, match="look away"):
        read_capture(write_folder(tmp_path / "b", cameras, images), "c", "n")


def test_cameras_in_one_direction_need_a_place(tmp_path, taken):
    cameras, images = taken
    pose = cameras.camera_to_world[:1].repeat(24, 1, 1)
    pose[:, :3, 3] += torch.rand(24, 3, generator=torch.Generator().manual_seed(0))
    cameras = type(cameras)(pose, cameras.focal, cameras.principal_point, 48, 48)
    with pytest.raises(ValueError, match=r"one direction.*--center"):
        read_capture(write_folder(tmp_path / "a", cameras, images), "c", "n")


def test_shuffled_images_have_no_object_in_common(tmp_path, taken):
    cameras, images = taken
    spots = np.zeros_like(images)
    for number in range(24):
        row, column = divmod(number % 12, 4)
        spots[number, 4 + 16 * row : 8 + 16 * row, 2 + 12 * column : 6 + 12 * column] = 255
    with pytest.raises(ValueError, match="no object in common"):
        read_capture(write_folder(tmp_path / "a", cameras, spots), "c", "n")


def test_masks_that_leave_nothing_free_are_said(tmp_path, taken):
    cameras, images = taken
    full = images.copy()
    full[..., 3] = 255
    full[:, 0, 0, 3] = 0
    with pytest.raises(ValueError, match="show the object everywhere"):
        read_capture(write_folder(tmp_path / "a", cameras, full), "c", "n")


def test_shortfall_of_a_fit():
    assert least_psnr("nano") == 14 and least_psnr("quick") == least_psnr("paper") == 18
    assert shortfall([17.9, 18.3], 18.0) is None and shortfall([], 18.0) is None and shortfall([1.0], None) is None
    assert "ends at 13.6 dB" in shortfall([13.6], 18.0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of foreign samples beside the checkout")
def test_suzanne_is_found():
    posed = read_capture(SHARED / "posed_suzanne", "c", "n")
    assert posed.images.shape == (18, 270, 480, 4) and posed.placement.up == (0, 0, 1)
    assert np.abs(posed.placement.center).max() < 0.1
    assert posed.placement.scale == pytest.approx(0.4, rel=0.1)  # it spans +-1.28, its farthest point is at about 1.5
