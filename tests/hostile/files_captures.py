"""Folders of posed images: cameras and pictures that claim too much, and names that lead out of the folder."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from .forged import deflated, raw_archive, written
from .pictures import png
from .registry import command, hostile, reader


@reader("cameras", "images")
def read_capture(path: Path) -> None:
    from gmn_encoder.fitting.captures import read_capture

    read_capture(path if path.is_dir() else path.parent, "c", "n")


@reader("cameras")
def read_cameras(path: Path) -> None:
    from gmn_encoder.rendering.camera_files import read_cameras

    read_cameras(path)


def _fitted(good: Path, out: Path, stdout: str) -> bool:
    return len(list((out / "fits").rglob("fit.json"))) == 1


@command("images", "mesh", done=_fitted, slow=True)
def fit(bad: Path, good: Path, out: Path) -> list:
    few = ["--quality", "nano", "--iterations", "2", "--views", "4", "--size", "16", "--device", "cpu"]
    return ["fit", bad, good, "--architecture", "MLP-nano", "--out", out / "fits", *few]


def _around(count: int = 5) -> list[dict[str, Any]]:
    """Frames of upright cameras on a circle that look at the origin."""
    frames = []
    for number in range(count):
        c, s = math.cos(number), math.sin(number)
        matrix = [[-s, 0, c, 4 * c], [c, 0, s, 4 * s], [0, 1, 0, 0], [0, 0, 0, 1]]
        frames.append({"file_path": f"{number}.png", "transform_matrix": matrix})
    return frames


def _folder(folder: Path, *, image: bytes | None = None, frames: list | None = None, **top: Any) -> Path:
    frames = _around() if frames is None else frames
    written(folder / "transforms.json", json.dumps({"camera_angle_x": 0.7, "frames": frames} | top).encode())
    for number in range(len(frames)):
        (folder / f"{number}.png").write_bytes(png(32, 32) if image is None else image)
    return folder


def _named(folder: Path, name: str) -> Path:
    frames = _around()
    frames[2]["file_path"] = name
    return _folder(folder, frames=frames)


@hostile("cameras")
def integers_of_400_digits(folder: Path) -> Path:
    return _folder(folder, fl_x=10**400) / "transforms.json"


@hostile("cameras")
def matrices_of_400_digits(folder: Path) -> Path:
    frames = _around()
    frames[1]["transform_matrix"] = [[10**400] * 4] * 4
    return _folder(folder, frames=frames) / "transforms.json"


@hostile("cameras")
def integers_of_10000_digits(folder: Path) -> Path:
    return written(folder / "transforms.json", b'{"w": 1' + b"0" * 10_000 + b', "frames": [{}]}')


@hostile("cameras")
def deep_cameras(folder: Path) -> Path:
    return written(folder / "transforms.json", b"[" * 300_000)


@hostile("cameras")
def a_million_frames(folder: Path) -> Path:
    return written(folder / "transforms.json", b'{"frames": [' + b"0," * 1_000_000 + b"0]}")


@hostile("cameras")
def lens_without_end(folder: Path) -> Path:
    return _folder(folder, k1=1e300, k2=-1e300) / "transforms.json"


@hostile("images")
def large_pictures(folder: Path) -> Path:
    """Five PNGs of 13,000 x 13,000 pixels, 20 KB each."""
    return _folder(folder, image=png(13_000, 13_000))


@hostile("images")
def huge_picture(folder: Path) -> Path:
    """100,000 x 100,000 pixels, of which one row is there."""
    return _folder(folder, image=png(100_000, 100_000, rows=1))


@hostile("images")
def picture_cut_short(folder: Path) -> Path:
    return _folder(folder, image=png(4_000, 4_000, rows=10))


@hostile("images")
def name_outside(folder: Path) -> Path:
    written(folder.parent / "outside.png", png(32, 32))
    return _named(folder / "capture", "../outside.png")


@hostile("images")
def name_of_a_system_file(folder: Path) -> Path:
    return _named(folder, "/etc/passwd")


@hostile("images")
def name_with_backslashes(folder: Path) -> Path:
    written(folder.parent / "outside.png", png(32, 32))
    return _named(folder / "capture", "..\\outside.png")


@hostile("images")
def name_is_a_url(folder: Path) -> Path:
    return _named(folder, "http://127.0.0.1:9/a.png")


@hostile("images")
def mask_outside(folder: Path) -> Path:
    return _folder(folder, mask_path="../../../../../../etc/passwd")


@hostile("images")
def cameras_that_look_away(folder: Path) -> Path:
    frames = _around()
    for frame in frames:
        matrix = frame["transform_matrix"]
        frame["transform_matrix"] = [[-row[0], row[1], -row[2], row[3]] for row in matrix[:3]] + [matrix[3]]
    return _folder(folder, frames=frames)


@hostile("images")
def cameras_far_away(folder: Path) -> Path:
    frames = _around()
    for frame in frames:
        frame["transform_matrix"][0][3] = 1e300
    return _folder(folder, frames=frames)


@hostile("images")
def colmap_of_2_to_the_60_images(folder: Path) -> Path:
    written(folder / "sparse" / "0" / "cameras.bin", struct.pack("<QiiQQ3d", 1, 1, 0, 32, 32, 30.0, 16.0, 16.0))
    written(folder / "sparse" / "0" / "images.bin", struct.pack("<Q", 1 << 60))
    return folder


@hostile("images")
def idr_that_unpacks_to_more(folder: Path) -> Path:
    """An .npz whose one array unpacks to 128 MiB of zeros."""
    (folder / "image").mkdir(parents=True)
    (folder / "image" / "0.png").write_bytes(png(32, 32))
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (16777216,), }"
    head += b" " * (117 - len(head)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(1 << 27)
    raw_archive(folder / "cameras.npz", [("world_mat_0.npy", *deflated(content))])
    return folder
