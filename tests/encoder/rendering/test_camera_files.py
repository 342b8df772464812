import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmn_encoder.rendering.camera_files import camera_file, read_cameras, write_cameras
from gmn_encoder.rendering.cameras import Cameras, sphere

from .conftest import nerf_directory

IDENTITY = torch.eye(4).tolist()


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_released_cameras_are_read():
    cameras = read_cameras(nerf_directory("mlp"))
    assert len(cameras) == 36 and cameras.image_names[0] == "train/00"
    assert (cameras.width, cameras.height) == (224, 224)
    torch.testing.assert_close(cameras.focal, torch.full((36, 2), 245.0000031867651))
    torch.testing.assert_close(cameras.camera_to_world[0, :3, 3], torch.tensor([0.0, 1.299038, 0.75]))


def test_written_cameras_have_the_released_keys_and_come_back(tmp_path):
    cameras = sphere(5)
    write_cameras(cameras, tmp_path / "transforms_train.json")
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    assert set(content) == {"camera_angle_x", "frames"} and content["frames"][3]["file_path"] == "train/03"
    assert math.isclose(content["camera_angle_x"], 0.8575560450553894, rel_tol=1e-7)
    back = read_cameras(tmp_path)
    assert torch.equal(back.camera_to_world, cameras.camera_to_world)
    torch.testing.assert_close(back.focal, cameras.focal)


def test_other_intrinsics_and_sizes_come_back(tmp_path):
    poses = sphere(2).camera_to_world
    focal, principal = torch.tensor([[80.0, 90.0], [70.0, 71.0]]), torch.tensor([[31.0, 25.0], [32.0, 24.0]])
    cameras = Cameras(poses, focal, principal, 64, 48, ("images/a.png", "images/b.png"))
    write_cameras(cameras, tmp_path / "transforms.json")
    back = read_cameras(tmp_path / "transforms.json")
    assert (back.width, back.height, back.image_names) == (64, 48, cameras.image_names)
    torch.testing.assert_close(back.focal, focal)
    torch.testing.assert_close(back.principal_point, principal)


def test_nerfstudio_intrinsics_for_all_frames_or_for_each(tmp_path):
    frame = {"file_path": "a.png", "transform_matrix": IDENTITY}
    shared = {"fl_x": 100, "fl_y": 110, "cx": 30, "cy": 20, "w": 64, "h": 48, "camera_angle_x": 0.1, "k1": 0.0}
    own = {**frame, "fl_x": 50, "fl_y": 55}
    cameras = read_cameras(write(tmp_path / "t.json", {**shared, "frames": [frame, own]}))
    assert cameras.focal.tolist() == [[100, 110], [50, 55]] and cameras.principal_point.tolist() == [[30, 20]] * 2
    assert (cameras.width, cameras.height) == (64, 48)


def test_size_is_taken_from_the_caller_where_the_file_does_not_say_it(tmp_path):
    path = write(tmp_path / "t.json", {"camera_angle_x": math.pi / 2, "frames": [{"transform_matrix": IDENTITY[:3]}]})
    cameras = read_cameras(path, width=100, height=50)
    assert (cameras.width, cameras.height) == (100, 50)
    torch.testing.assert_close(cameras.focal, torch.tensor([[50.0, 50.0]]))
    assert cameras.principal_point.tolist() == [[50, 25]]


FRAME = {"file_path": "train/00", "transform_matrix": IDENTITY}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "JSON|nested"),
        ("[]", "holds a list"),
        ({"camera_angle_x": 1.0}, "'frames' holds nothing"),
        ({"camera_angle_x": 1.0, "frames": []}, "an empty list"),
        ({"camera_angle_x": 1.0, "frames": ["a"]}, "frame 0 is a str"),
        ({"camera_angle_x": 1.0, "frames": [FRAME, {"file_path": "b"}]}, r"frame 1 \(b\) has no 'transform_matrix'"),
        ({"camera_angle_x": 1.0, "frames": [{"transform_matrix": [[1, 2], [3, 4]]}]}, "not 4x4"),
        ({"camera_angle_x": 1.0, "frames": [{"transform_matrix": [["a"] * 4] * 4}]}, "no numbers"),
        ({"camera_angle_x": 1.0, "frames": [{"transform_matrix": [[0.0] * 4] * 3 + [[0, 0, 0, 1]]}]}, "not rigid"),
        ({"frames": [FRAME]}, "no field of view"),
        ({"camera_angle_x": 4.0, "frames": [FRAME]}, "radians"),
        ({"camera_angle_x": "wide", "frames": [FRAME]}, "expected a number"),
        ({"fl_x": -1.0, "frames": [FRAME]}, "focal"),
        ({"fl_x": 10.0, "w": 0, "h": 5, "frames": [FRAME]}, "w = 0 pixels"),
        ({"fl_x": 10.0, "camera_model": "EQUIRECTANGULAR", "frames": [FRAME]}, "EQUIRECTANGULAR.*undistort"),
        ({"fl_x": 10.0, "k1": 1e9, "frames": [FRAME]}, "coefficients"),
        ({"fl_x": 10**400, "frames": [FRAME]}, "fl_x with 401 digits"),
        ('{"fl_x": 1' + "0" * 5000 + ', "frames": [1]}', "thousands of digits"),
        ({"fl_x": 10.0, "frames": [{"transform_matrix": [[10**400] * 4] * 4}]}, "hundreds of digits"),
        (
            {"fl_x": 10.0, "frames": [{"transform_matrix": [[1, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 1, 0]]}]},
            "from the origin",
        ),
        ({"fl_x": 10.0, "w": 64, "h": 64, "frames": [FRAME, {**FRAME, "w": 32}]}, "32x64.*64x64"),
    ],
)
def test_bad_camera_files_are_refused_with_a_reason(tmp_path, content, message):
    path = write(tmp_path / "transforms.json", content)
    with pytest.raises(ValueError, match=message) as caught:
        read_cameras(tmp_path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"transforms_train_compressed\.json"):
        camera_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_cameras(tmp_path / "nowhere")
    (tmp_path / "transforms.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        read_cameras(tmp_path)


def test_lenses_are_read_and_come_back(tmp_path):
    frame = {"file_path": "a.png", "transform_matrix": IDENTITY}
    shared = {
        "fl_x": 100,
        "w": 64,
        "h": 48,
        "k1": -0.1,
        "k2": 0.02,
        "p1": 0.001,
        "p2": -0.002,
        "camera_model": "OPENCV",
    }
    other = {**frame, "camera_model": "OPENCV_FISHEYE", "k1": 0.01, "k3": 0.003, "k4": -0.1}
    write(tmp_path / "transforms.json", {**shared, "frames": [frame, other]})
    cameras = read_cameras(tmp_path)
    assert cameras.lens.fisheye.tolist() == [False, True]
    assert cameras.lens.coefficients[0].tolist() == [-0.1, 0.02, 0, 0, 0.001, -0.002]
    write_cameras(cameras, tmp_path / "transforms.json")
    back = read_cameras(tmp_path)
    assert torch.equal(back.lens.coefficients, cameras.lens.coefficients)
    assert torch.equal(back.lens.fisheye, cameras.lens.fisheye)


def test_instant_ngp_says_fisheye_otherwise_and_degrees_are_read(tmp_path):
    frame = {"file_path": "a.png", "transform_matrix": IDENTITY}
    content = {"x_fov": 90.0, "y_fov": 60.0, "w": 64, "h": 64, "is_fisheye": True, "k1": 0.1, "frames": [frame]}
    cameras = read_cameras(write(tmp_path / "t.json", content))
    assert cameras.lens.fisheye.tolist() == [True]
    torch.testing.assert_close(cameras.focal[0], torch.tensor([32.0, 32.0 / math.tan(math.pi / 6)]))


_WHOLE = {
    "fl_x": 100, "w": 64, "h": 48, "k1": -0.1, "camera_model": "OPENCV",
    "frames": [{"file_path": "a.png", "transform_matrix": IDENTITY}, {"file_path": "b.png", "transform_matrix": IDENTITY}],
}  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_PLACES = [
    ("fl_x",), ("w",), ("h",), ("k1",), ("p2",), ("cx",), ("camera_model",), ("camera_angle_x",), ("frames",), ("frames", 0),
    ("frames", 1, "file_path"), ("frames", 1, "transform_matrix"), ("frames", 1, "transform_matrix", 2),
    ("frames", 0, "transform_matrix", 1, 3), ("frames", 1, "fl_y"), ("frames", 1, "is_fisheye"), ("frames", 0, "mask_path"),
]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_PLACES), _VALUES)
def test_any_value_in_any_place_is_read_or_refused_in_a_sentence(tmp_path, place, value):
    content = json.loads(json.dumps(_WHOLE))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path = write(tmp_path / "transforms.json", content)
    try:
        cameras = read_cameras(path)
    except ValueError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert bool(torch.isfinite(cameras.camera_to_world).all()) and bool((cameras.focal > 0).all())
