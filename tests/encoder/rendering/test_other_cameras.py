"""COLMAP, LLFF and IDR: files written here after their descriptions give the cameras that were put in."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
import torch

from gmn_encoder.rendering.array_cameras import read_idr, read_llff
from gmn_encoder.rendering.cameras import sphere
from gmn_encoder.rendering.colmap import colmap_model, read_colmap
from gmn_encoder.rendering.frames import cameras_of

PARAMETERS = {
    "SIMPLE_PINHOLE": (0, (90.0, 31.0, 25.0)),
    "PINHOLE": (1, (90.0, 80.0, 31.0, 25.0)),
    "SIMPLE_RADIAL": (2, (90.0, 31.0, 25.0, -0.1)),
    "RADIAL": (3, (90.0, 31.0, 25.0, -0.1, 0.02)),
    "OPENCV": (4, (90.0, 80.0, 31.0, 25.0, -0.1, 0.02, 0.001, -0.002)),
    "OPENCV_FISHEYE": (5, (90.0, 80.0, 31.0, 25.0, 0.01, 0.02, 0.003, -0.004)),
    "FULL_OPENCV": (6, (90.0, 80.0, 31.0, 25.0, -0.1, 0.02, 0.001, -0.002, 0.003, 0.0, 0.0, 0.0)),
    "RADIAL_FISHEYE": (9, (90.0, 31.0, 25.0, 0.01, 0.02)),
}


def world_to_camera(pose: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation with OpenCV axes of a camera-to-world matrix with OpenGL axes."""
    turn = pose[:3, :3].double().numpy() @ np.diag([1.0, -1, -1])
    return turn.T, -turn.T @ pose[:3, 3].double().numpy()


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """w, x, y, z: the eigenvector of the largest eigenvalue of the matrix that Shepperd's method takes apart."""
    m = rotation
    k = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    return np.linalg.eigh(k)[1][:, -1]


def write_colmap(folder, cameras, model, *, binary, points=((0.1, 0.2, 0.3),)):
    folder.mkdir(parents=True)
    number, parameters = PARAMETERS[model]
    rows = [(*quaternion(r), *t) for r, t in map(world_to_camera, cameras.camera_to_world)]
    names = [f"view {n}.png" for n in range(len(rows))]
    if binary:
        camera = struct.pack("<QiiQQ", 1, 7, number, 64, 48) + struct.pack(f"<{len(parameters)}d", *parameters)
        images = [
            struct.pack("<i7di", n + 1, *row, 7) + name.encode() + b"\0" + struct.pack("<Qddq", 1, 0.0, 0.0, -1)
            for n, (row, name) in enumerate(zip(rows, names, strict=True))
        ]
        seen = [struct.pack("<Q3d3BdQii", n, *p, 1, 2, 3, 0.5, 1, 1, 0) for n, p in enumerate(points)]
        contents = (
            camera,
            struct.pack("<Q", len(images)) + b"".join(images),
            struct.pack("<Q", len(seen)) + b"".join(seen),
        )
        for stem, content in zip(("cameras", "images", "points3D"), contents, strict=True):
            (folder / f"{stem}.bin").write_bytes(content)
        return folder
    (folder / "cameras.txt").write_text(f"# comment\n7 {model} 64 48 {' '.join(map(str, parameters))}\n")
    lines = [
        f"{n + 1} {' '.join(map(repr, map(float, row)))} 7 {name}\n\n"
        for n, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    (folder / "images.txt").write_text("# comment\n" + "".join(lines))
    (folder / "points3D.txt").write_text(
        "".join(f"{n} {p[0]} {p[1]} {p[2]} 1 2 3 0.5 1 0\n" for n, p in enumerate(points))
    )
    return folder


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", PARAMETERS)
def test_colmap_models(tmp_path, model, binary):
    cameras = sphere(4)
    folder = write_colmap(tmp_path / "sparse" / "0", cameras, model, binary=binary)
    assert colmap_model(tmp_path) == folder
    frames, points = read_colmap(folder)
    found = cameras_of(frames, [frame.size for frame in frames])
    torch.testing.assert_close(found.camera_to_world.float(), cameras.camera_to_world, atol=1e-6, rtol=0)
    assert found.image_names == tuple(f"view {n}.png" for n in range(4)) and (found.width, found.height) == (64, 48)
    single = model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "RADIAL_FISHEYE")
    assert found.focal[0].tolist() == ([90, 90] if single else [90, 80])
    assert found.principal_point[0].tolist() == [31, 25]
    torch.testing.assert_close(points, torch.tensor([[0.1, 0.2, 0.3]]))
    expected = {
        "SIMPLE_RADIAL": [-0.1, 0, 0, 0, 0, 0],
        "RADIAL": [-0.1, 0.02, 0, 0, 0, 0],
        "OPENCV": [-0.1, 0.02, 0, 0, 0.001, -0.002],
        "OPENCV_FISHEYE": [0.01, 0.02, 0.003, -0.004, 0, 0],
        "FULL_OPENCV": [-0.1, 0.02, 0.003, 0, 0.001, -0.002],
        "RADIAL_FISHEYE": [0.01, 0.02, 0, 0, 0, 0],
    }
    if model in expected:
        assert found.lens.coefficients[0].tolist() == expected[model]
        assert bool(found.lens.fisheye[0]) == model.endswith("FISHEYE")
    else:
        assert found.lens is None


def test_broken_colmap_models_are_named(tmp_path):
    folder = write_colmap(tmp_path / "a", sphere(3), "PINHOLE", binary=True)
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    cases = [
        ("cameras.bin", whole["cameras.bin"][:20], "cut short"),
        ("cameras.bin", struct.pack("<QiiQQ", 1, 7, 99, 64, 48), "model number 99"),
        ("cameras.bin", struct.pack("<Q", 1 << 60), "claims"),
        ("images.bin", whole["images.bin"][:-30], "cut short"),
        ("images.bin", struct.pack("<Q", 1 << 60) + whole["images.bin"][8:], "claims"),
        (
            "images.bin",
            whole["images.bin"][:72].replace(struct.pack("<i", 7), struct.pack("<i", 8)) + whole["images.bin"][72:],
            "camera 8",
        ),
        ("images.bin", struct.pack("<Q", 0), "no images"),
        ("points3D.bin", whole["points3D.bin"][:-3], "cut short"),
        ("points3D.bin", struct.pack("<Q", 1 << 50), "claims"),
    ]
    for name, content, message in cases:
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_colmap(folder)
        assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
        (folder / name).write_bytes(whole[name])
    text = write_colmap(tmp_path / "b", sphere(3), "PINHOLE", binary=False)
    (text / "cameras.txt").write_text("7 FOV 64 48 1 2 3 4 5\n")
    with pytest.raises(ValueError, match="model FOV, which is not read here"):
        read_colmap(text)
    (text / "cameras.txt").write_text("7 PINHOLE 64 48 a b c d\n")
    with pytest.raises(ValueError, match="'a' where a number"):
        read_colmap(text)


def test_llff(tmp_path):
    cameras = sphere(3, size=64).resized(64, 48)
    rows = []
    for pose in cameras.camera_to_world.double().numpy():
        right, up, backwards, position = pose[:3].T
        matrix = np.stack([-up, right, backwards, position, [48.0, 64.0, 70.0]], axis=1)
        rows.append(np.concatenate([matrix.ravel(), [0.5, 3.0]]))
    np.save(tmp_path / "poses_bounds.npy", np.stack(rows))
    names = ["images/0.png", "images/1.png", "images/2.png"]
    frames = read_llff(tmp_path / "poses_bounds.npy", names)
    found = cameras_of(frames, [frame.size for frame in frames])
    torch.testing.assert_close(found.camera_to_world.float(), cameras.camera_to_world)
    assert (found.width, found.height) == (64, 48) and found.focal[0].tolist() == [70, 70]
    with pytest.raises(ValueError, match="3 cameras and its folder 2 images"):
        read_llff(tmp_path / "poses_bounds.npy", names[:2])
    for bad, message in [(np.zeros((3, 16)), r"\[3, 16\]"), (np.array([{}], dtype=object), "no file of cameras")]:
        np.save(tmp_path / "poses_bounds.npy", bad, allow_pickle=True)
        with pytest.raises(ValueError, match=message):
            read_llff(tmp_path / "poses_bounds.npy", names)


def test_idr(tmp_path):
    cameras = sphere(3, size=64)
    intrinsics = np.array([[70.0, 0, 31], [0, 65.0, 29], [0, 0, 1]])
    scale = np.diag([40.0, 40, 40, 1])
    scale[:3, 3] = (10, 20, 600)
    arrays = {}
    for number, pose in enumerate(cameras.camera_to_world):
        rotation, translation = world_to_camera(pose)
        projection = np.eye(4)
        projection[:3] = intrinsics @ np.concatenate([rotation, translation[:, None]], axis=1)
        arrays[f"scale_mat_{number}"] = scale
        arrays[f"world_mat_{number}"] = -2.5 * projection @ np.linalg.inv(scale)  # of any length and sign
    np.savez(tmp_path / "cameras.npz", **arrays)
    names = ["image/0.png", "image/1.png", "image/2.png"]
    frames = read_idr(tmp_path / "cameras.npz", names, ["mask/0.png", "mask/1.png", "mask/2.png"])
    found = cameras_of(frames, [(64, 64)] * 3)
    torch.testing.assert_close(found.camera_to_world.float(), cameras.camera_to_world, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.focal[0], torch.tensor([70.0, 65.0], dtype=torch.float64))
    torch.testing.assert_close(found.principal_point[0], torch.tensor([31.0, 29.0], dtype=torch.float64))
    assert frames[1].mask == "mask/1.png"
    with pytest.raises(ValueError, match="no 4x4 world_mat_3"):
        read_idr(tmp_path / "cameras.npz", [*names, "image/3.png"], [])
    with pytest.raises(ValueError, match="3 images and 1 masks"):
        read_idr(tmp_path / "cameras.npz", names, ["mask/0.png"])


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 24,)})
    with zipfile.ZipFile(tmp_path / "cameras.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("world_mat_0.npy", header.getvalue() + bytes(1 << 27))
    assert (tmp_path / "cameras.npz").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"unpacks to 134,\d+,\d+ bytes"):
        read_idr(tmp_path / "cameras.npz", ["a.png"], [])
