import json

import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder.fitting.captures import read_capture
from gmn_encoder.fitting.placement import PlacementRequest, direction
from gmn_encoder.fitting.sources import _standing_mesh, check_ids, find_sources
from gmn_encoder.objects import ViewSettings
from gmn_encoder.objects.mesh import RADIUS
from gmn_encoder.rendering.camera_files import write_cameras
from gmn_encoder.rendering.cameras import sphere

SMALL = ViewSettings(n_views=3, size=16)


@pytest.fixture
def folder(tmp_path):
    """Ten views of a red square, RGBA, cameras beside them."""
    path = tmp_path / "things" / "cup"
    (path / "train").mkdir(parents=True)
    write_cameras(sphere(10, size=16), path / "transforms.json")
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[4:12, 4:12] = (200, 10, 10, 255)
    for view in range(10):
        picture[0, 0, 0] = view  # colour where nothing is seen
        Image.fromarray(picture).save(path / "train" / f"{view:02d}.png")
    return path


def _edit(folder, change):
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


def test_image_folder_keeps_every_ninth_view_to_measure_on(folder):
    (source,) = find_sources(str(folder.parent))
    assert (source.class_id, source.nerf_id) == ("things", "cup")
    posed = source.load()
    assert len(posed.images) == 9 and len(posed.held_out) == 1
    assert posed.held_out[0, 0, 0, 0] == 4
    assert posed.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert posed.cameras.image_names[4] == "train/04"
    assert torch.equal(posed.cameras.camera_to_world[4], sphere(10).camera_to_world[5])
    assert posed.background is None


def test_test_cameras_are_measured_on_where_there_are_some(folder):
    write_cameras(sphere(10, size=16)[[2, 3]], folder / "transforms_test.json")
    posed = read_capture(folder, "c", "n")
    assert len(posed.images) == 10 and len(posed.held_out) == 2


def test_images_without_opacity_are_told_apart_by_their_background(folder):
    for file in (folder / "train").iterdir():
        picture = np.full((16, 16, 3), 255, np.uint8)
        picture[4:12, 4:12] = (200, 10, 10)
        picture[6:8, 6:8] = 255  # as white as the background, but enclosed
        Image.fromarray(picture).save(file)
    posed = read_capture(folder, "c", "n", background=torch.ones(3))
    covered = posed.images[0, ..., 3] == 255
    assert covered.sum() == 64 and covered[4:12, 4:12].all()
    assert "background colour" in posed.notes[0]
    found = read_capture(folder, "c", "n")
    assert torch.equal(found.images, posed.images) and found.background.tolist() == [1, 1, 1]


def test_missing_images_are_left_out_with_a_count_or_refused(folder):
    (folder / "train" / "03.png").unlink()
    (folder / "train" / "07.png").unlink()
    posed = read_capture(folder, "c", "n")
    assert "2 of 10 images are missing: left out" in posed.notes
    assert sorted([*posed.images[:, 0, 0, 0].tolist(), *posed.held_out[:, 0, 0, 0].tolist()]) == [
        0,
        1,
        2,
        4,
        5,
        6,
        8,
        9,
    ]
    with pytest.raises(FileNotFoundError, match=r"train/03: 2 of 10 images are missing"):
        read_capture(folder, "c", "n", strict=True)
    for file in (folder / "train").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"train/00: 10 of 10 images are missing"):
        read_capture(folder, "c", "n")


def test_broken_image_is_named(folder):
    (folder / "train" / "05.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"05\.png: is no image"):
        read_capture(folder, "c", "n")


def test_bad_cameras_are_named(folder):
    _edit(folder, lambda content: content["frames"][2].pop("transform_matrix"))
    with pytest.raises(ValueError, match=r"frame 2 .*has no 'transform_matrix'"):
        read_capture(folder, "c", "n")
    _edit(folder, lambda content: content["frames"][2].update(transform_matrix=(2 * np.eye(4)).tolist()))
    with pytest.raises(ValueError, match=r"frame 2 .*cannot be used"):
        read_capture(folder, "c", "n")


def test_views_that_show_nothing_are_refused(folder):
    for file in (folder / "train").iterdir():
        Image.new("RGBA", (16, 16)).save(file)
    with pytest.raises(ValueError, match="nothing is seen"):
        read_capture(folder, "c", "n")


def test_procedural_sources_are_those_of_the_data_set():
    from gmn_encoder.objects import generate_dataset

    sources = list(find_sources("procedural:15", settings=SMALL, seed=3))
    expected = list(generate_dataset(15, 3))
    assert [(s.class_id, s.nerf_id) for s in sources] == [(thing.class_id, thing.object_id) for thing in expected]
    posed = sources[14].load()
    assert posed.nerf_id == expected[14].object_id
    assert posed.images.shape == (3, 16, 16, 4) and posed.held_out.shape == (4, 16, 16, 4)
    gaps = torch.cdist(posed.cameras.camera_to_world[:, :3, 3], posed.held_out_cameras.camera_to_world[:, :3, 3])
    assert gaps.min() > 1e-3


@pytest.mark.parametrize("text", ["procedural:", "procedural:0", "procedural:-3", "procedural:two"])
def test_procedural_wants_a_number(text):
    with pytest.raises(ValueError, match="procedural:N"):
        list(find_sources(text))


def test_what_is_no_source_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        list(find_sources(str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="neither a camera file"):
        list(find_sources(str(tmp_path)))
    (tmp_path / "a.step").write_text("x")
    (source,) = find_sources(str(tmp_path / "a.step"))
    with pytest.raises(ValueError, match=r"unknown extension '\.step'"):
        source.load()


def test_mesh_in_a_class_directory_gets_its_synset_and_two_of_a_name_are_told(tmp_path):
    pytest.importorskip("trimesh")
    (tmp_path / "chair").mkdir()
    lines = ["v -1 0 0", "v 1 0 0", "v 0 1 0", "v 0 0 1", "f 1 2 3", "f 1 2 4", "f 2 3 4", "f 1 3 4"]
    for name in ("a.b.obj", "a_b.obj"):
        (tmp_path / "chair" / name).write_text("\n".join(lines))
    sources = list(find_sources(str(tmp_path), settings=SMALL))
    assert [(s.class_id, s.nerf_id) for s in sources] == [("03001627", "a_b")] * 2
    problems = [problem for _, problem in check_ids(sources)]
    assert problems[0] is None and "would be written over" in problems[1]
    posed = sources[0].load()
    assert (posed.images[..., 3] > 0).any(dim=(1, 2)).all()
    assert posed.notes


def test_a_range_of_procedural_objects_goes_on_where_the_first_end():
    first, then = (
        list(find_sources("procedural:15", settings=SMALL)),
        list(find_sources("procedural:13..15", settings=SMALL)),
    )
    assert [(each.nerf_id, each.index) for each in then] == [(each.nerf_id, each.index) for each in first[13:]]
    for text in ("procedural:15..13", "procedural:3..", "procedural:..4", "procedural:2..2"):
        with pytest.raises(ValueError, match=r"procedural:A\.\.B"):
            list(find_sources(text, settings=SMALL))


def test_meshes_of_a_manifest_stand_upright(tmp_path):
    flat = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nelement face 4\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n4 0 0\n0 2 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"  # noqa: E501
    (tmp_path / "chair").mkdir()
    for name in ("a", "b"):
        (tmp_path / "chair" / f"{name}.ply").write_text(flat)
    entries = [{"file": "chair/a.ply"}, {"file": "chair/b.ply", "up_axis": "z"}]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    sources = list(find_sources(f"manifest:{tmp_path / 'manifest.json'}", settings=SMALL))
    assert [(each.class_id, each.nerf_id) for each in sources] == [("03001627", "a"), ("03001627", "b")]
    assert sources[0].options["up_axis"] == "y" and sources[1].options["up_axis"] == "z"
    assert not torch.equal(sources[0].open().images, sources[1].open().images)
    with pytest.raises(FileNotFoundError, match="expected a JSON list of meshes"):
        list(find_sources(f"manifest:{tmp_path / 'none.json'}", settings=SMALL))
    (tmp_path / "manifest.json").write_text('{"file": 1}')
    with pytest.raises(ValueError, match="is no JSON list of meshes"):
        list(find_sources(f"manifest:{tmp_path / 'manifest.json'}", settings=SMALL))


def test_changed_copies_are_other_objects(tmp_path):
    (copy, second) = list(find_sources("procedural:1", settings=SMALL, copies=2))
    assert (copy.nerf_id, second.nerf_id) == ("airplane-000000000_v1", "airplane-000000000_v2")
    (own,) = list(find_sources("procedural:1", settings=SMALL))
    images = [each.open().images for each in (own, copy, second)]
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[1], images[2])
    assert torch.equal(copy.open().images, images[1]) and copy.procedural is None
    with pytest.raises(ValueError, match="only objects of procedural: and manifest: have changed copies"):
        list(find_sources(str(tmp_path), settings=SMALL, copies=1))


def test_meshes_stand_as_the_user_says(tmp_path):
    """A pyramid whose tip is its farthest point: where the tip is in the views' world tells what was taken for up."""
    pytest.importorskip("trimesh")
    lines = ["v -1 -1 0", "v 1 -1 0", "v 1 1 0", "v -1 1 0", "v 0 0 5", "f 1 2 3", "f 1 3 4"]
    lines += ["f 1 2 5", "f 2 3 5", "f 3 4 5", "f 4 1 5"]
    (tmp_path / "a.obj").write_text("\n".join(lines))

    def tip(up):
        mesh = _standing_mesh(tmp_path / "a.obj", direction(up))
        return mesh.vertices[np.linalg.norm(mesh.vertices[:, :2], axis=1).argmin()]

    assert tip("z")[2] > 0.5 and tip("-z")[2] < -0.5
    standing, tilted = (_standing_mesh(tmp_path / "a.obj", direction(up)) for up in ("0,0,2", "0,1,1"))
    np.testing.assert_allclose(standing.vertices, _standing_mesh(tmp_path / "a.obj", (0.0, 0.0, 1.0)).vertices)
    apex = tilted.vertices[np.linalg.norm(tilted.vertices - tilted.vertices.mean(axis=0), axis=1).argmax()]
    assert apex[2] > 0.2 and apex[1] < -0.2  # 45 degrees aside
    assert np.linalg.norm(tilted.vertices, axis=1).max() == pytest.approx(RADIUS, rel=1e-5)
    with pytest.raises(ValueError, match="are not three numbers"):
        direction("upwards")


def test_meshes_are_taken_whole(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 1\nf 1 2 3\n")
    for asked in ({"scale": 1.0}, {"center": (0.0, 0.0, 0.0)}):
        with pytest.raises(ValueError, match=r"a\.obj: is a mesh, which is brought into the box whole"):
            list(find_sources(str(tmp_path / "a.obj"), settings=SMALL, placement=PlacementRequest(**asked)))
