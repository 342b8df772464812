"""Mesh files of every kind, made here with known geometry and colour, and files that must be refused."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

trimesh = pytest.importorskip("trimesh")
Image = pytest.importorskip("PIL.Image")

from gmn_encoder.objects import mesh_files  # noqa: E402
from gmn_encoder.objects.colours import linear_to_srgb, srgb_to_linear  # noqa: E402
from gmn_encoder.objects.mesh import BOX, RADIUS  # noqa: E402
from gmn_encoder.objects.mesh_files import GREY, load_mesh  # noqa: E402

SHARED = Path(os.environ.get("LLANA_GMN_SHARED", Path(__file__).parents[4] / "shared")) / "objects"


def tall_box(**kwargs):
    """1 x 2 x 3, off centre."""
    box = trimesh.creation.box((1.0, 2.0, 3.0), **kwargs)
    box.apply_translation((5, 6, 7))
    return box


def painted_box():
    box = tall_box()
    box.visual = trimesh.visual.ColorVisuals(box, vertex_colors=np.tile([200, 40, 20, 255], (len(box.vertices), 1)))
    return box


def gltf_triangle(
    material: dict, *, attributes: dict[str, np.ndarray] | None = None, images: list[bytes] | None = None
) -> bytes:
    """A GLB with one triangle, written by hand: the file is the test's, not trimesh's exporter's."""
    arrays = {"POSITION": np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), **(attributes or {})}
    blob, views, accessors = b"", [], []
    for array in arrays.values():
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        accessor = {
            "bufferView": len(views) - 1,
            "count": len(array),
            "type": f"VEC{array.shape[1]}",
            "componentType": 5126,
        }
        accessors.append(accessor | {"min": array.min(0).tolist(), "max": array.max(0).tolist()})
        blob += array.tobytes()
    pictures = []
    for image in images or []:
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(image)})
        pictures.append({"bufferView": len(views) - 1, "mimeType": "image/png"})
        blob += image + b"\0" * (-len(image) % 4)
    header = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {name: k for k, name in enumerate(arrays)}, "material": 0}]}],
        "materials": [material], "buffers": [{"byteLength": len(blob)}], "bufferViews": views, "accessors": accessors,
    }  # fmt: skip
    if pictures:
        header |= {"images": pictures, "textures": [{"source": k} for k in range(len(pictures))]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    return struct.pack("<III", 0x46546C67, 2, 12 + len(body)) + body


def png(pixels) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("extension", ["glb", "gltf", "obj", "ply", "off", "stl", "GLB"])
def test_every_format_lands_centred_in_the_box(tmp_path, extension):
    path = tmp_path / f"box.{extension}"
    if extension == "gltf":
        for name, content in trimesh.exchange.gltf.export_gltf(trimesh.Scene(painted_box())).items():
            (tmp_path / name.replace("model.gltf", "box.gltf")).write_bytes(content)
    else:
        painted_box().export(path, file_type=extension.lower())
    mesh = load_mesh(path, up="z")
    size = np.ptp(mesh.vertices, axis=0)
    assert mesh.n_faces == 12
    np.testing.assert_allclose(size / size[0], [1, 2, 3], rtol=1e-5)
    np.testing.assert_allclose(mesh.vertices.min(0), -mesh.vertices.max(0), atol=1e-6)
    assert np.isclose(np.linalg.norm(mesh.vertices, axis=1).max(), RADIUS, atol=1e-5)
    assert np.abs(mesh.vertices).max() < BOX
    if extension not in ("stl", "off"):
        assert mesh.notes == ()
        if extension in ("glb", "GLB", "gltf"):  # its vertex colours are linear by standard
            expected = np.rint(linear_to_srgb(np.array([200, 40, 20]) / 255) * 255)
        else:
            expected = [200, 40, 20]
        np.testing.assert_allclose(mesh.colours[0, 0, :3], expected, atol=1)


def test_up_axis(tmp_path):
    tall_box().export(tmp_path / "a.glb")
    tall_box().export(tmp_path / "a.stl")
    assert np.ptp(load_mesh(tmp_path / "a.glb").vertices, axis=0).argmax() == 1  # file z lies: glTF is y-up
    assert np.ptp(load_mesh(tmp_path / "a.glb", up="z").vertices, axis=0).argmax() == 2
    assert np.ptp(load_mesh(tmp_path / "a.stl").vertices, axis=0).argmax() == 2
    assert np.ptp(load_mesh(tmp_path / "a.stl", up="y").vertices, axis=0).argmax() == 1
    with pytest.raises(ValueError, match="up is 'x'"):
        load_mesh(tmp_path / "a.stl", up="x")


def test_y_up_turns_like_blenders_import(tmp_path):
    """(x, y, z) -> (x, -z, y), without mirroring: the winding still gives outward normals."""
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 2]], [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    mesh.export(tmp_path / "a.obj")
    ours = load_mesh(tmp_path / "a.obj")
    tip = ours.vertices[ours.vertices[:, 2].argmax()]
    assert np.ptp(ours.vertices, axis=0).argmax() == 2
    assert ours.vertices[ours.vertices[:, 1].argmin(), 1] < tip[1]
    corners = ours.vertices[ours.faces].astype(float)
    assert np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0


def test_scene_graph_is_baked(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box((1, 1, 1))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix((-2, 0, 0)))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix((2, 0, 0)))
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb", up="z")
    size = np.ptp(mesh.vertices, axis=0)
    assert mesh.n_faces == 24
    np.testing.assert_allclose(size[0] / size[1], 5, rtol=1e-5)


def test_base_colour_factor_is_linear(tmp_path):
    material = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.2, 0.0, 1.0]}}
    (tmp_path / "a.glb").write_bytes(gltf_triangle(material))
    # sRGB of linear 0.5 is 0.7354 (187.5), of 0.2 is 0.4845 (123.5), of the standard's formula.
    np.testing.assert_allclose(load_mesh(tmp_path / "a.glb").colours[0, 0], [188, 124, 0, 255], atol=1)


def test_factor_times_vertex_colour(tmp_path):
    material = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1.0, 1.0, 1.0]}}
    colour = np.tile(np.array([0.5, 0.0, 1.0, 1.0], np.float32), (3, 1))
    (tmp_path / "a.glb").write_bytes(gltf_triangle(material, attributes={"COLOR_0": colour}))
    # 0.25 linear is 0.5371 in sRGB (137); multiplied in sRGB it is 138.
    np.testing.assert_allclose(load_mesh(tmp_path / "a.glb").colours[0, 0], [137, 0, 255, 255], atol=2)


UV = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]], np.float32)


def test_texture_is_kept_and_multiplied_in_linear_light(tmp_path):
    image = png([[[255, 0, 0, 255], [0, 255, 0, 255]], [[0, 0, 255, 255], [255, 255, 255, 255]]])
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 1, 1, 1]}}
    (tmp_path / "a.glb").write_bytes(gltf_triangle(material, attributes={"TEXCOORD_0": UV}, images=[image]))
    mesh = load_mesh(tmp_path / "a.glb")
    assert mesh.texture.tolist() == [0]
    np.testing.assert_allclose(mesh.textures[0][0, 0], [188, 0, 0, 255], atol=1)
    np.testing.assert_allclose(mesh.textures[0][1, 1], [188, 255, 255, 255], atol=1)
    # glTF's v runs down from the top, ours up: corner 0 at (0.25, 0.25) is in the upper left, red, texel.
    np.testing.assert_allclose(mesh.uv[0, 0], [0.25, 0.75], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "opacity"), [({}, [255, 255]), ({"alphaMode": "BLEND"}, [100, 200]), ({"alphaMode": "MASK"}, [0, 255]),
                          ({"alphaMode": "MASK", "alphaCutoff": 0.3}, [255, 255])],
)  # fmt: skip
def test_alpha_modes(tmp_path, mode, opacity):
    image = png([[[10, 20, 30, 100], [10, 20, 30, 200]]])
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}, **mode}
    (tmp_path / "a.glb").write_bytes(gltf_triangle(material, attributes={"TEXCOORD_0": UV}, images=[image]))
    mesh = load_mesh(tmp_path / "a.glb")
    assert mesh.textures[0][0, :, 3].tolist() == opacity
    assert mesh.opaque == (min(opacity) == 255)


def test_broken_texture_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 4))
    image = bytearray(png(noise))
    image[600:1200] = bytes(600)  # the header stays, the pixels do not
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    (tmp_path / "a.glb").write_bytes(gltf_triangle(material, attributes={"TEXCOORD_0": UV}, images=[bytes(image)]))
    with pytest.raises(ValueError, match=r"a\.glb: a texture of the mesh cannot be decoded"):
        load_mesh(tmp_path / "a.glb")


def test_no_colour_is_grey_and_said(tmp_path):
    tall_box().export(tmp_path / "a.stl")
    mesh = load_mesh(tmp_path / "a.stl", up="z")
    assert (mesh.colours == GREY).all()
    assert mesh.notes == ("no colour in the file: grey",)


def test_obj_material_and_strays(tmp_path):
    (tmp_path / "a.mtl").write_text("newmtl paint\nKd 0.2 0.4 0.6\n")
    text = "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 1000 0 0\nv 0 0 0\nusemtl paint\nf 1 2 3\nf 1 1 2\n"
    (tmp_path / "a.obj").write_text(text)
    mesh = load_mesh(tmp_path / "a.obj", up="y")
    assert mesh.n_faces == 1 and len(mesh.vertices) == 3  # the stray vertex does not shrink the object
    np.testing.assert_allclose(mesh.colours[0, 0], [51, 102, 153, 255], atol=1)  # .obj colours are sRGB
    assert mesh.notes == ("left out 1 of 2 triangles that have no area",)


def broken_files() -> dict[str, tuple[str, bytes, str]]:
    glb = gltf_triangle({})
    return {
        "no faces": ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles|no .obj mesh"),
        "point cloud": ("a.ply", trimesh.PointCloud(np.eye(3)).export(file_type="ply"), "no triangles"),
        "flat": ("a.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "has an area"),
        "nan": ("a.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        "infinite": ("a.off", b"OFF\n3 1 0\n0 0 0\n1e999 0 0\n0 1 0\n3 0 1 2\n", "not finite"),
        "unknown extension": ("a.fbx", b"x", "unknown extension '.fbx'.*expected one of .glb"),
        "no extension": ("a", b"x", "unknown extension ''"),
        "empty": ("a.glb", b"", "is empty"),
        "truncated glb": ("a.glb", glb[: len(glb) // 2], "cut short"),
        "truncated header": ("a.glb", glb[:9], "cut short"),
        "truncated stl": ("a.stl", tall_box().export(file_type="stl")[:300], "cut short|no triangles"),
        "truncated ply": ("a.ply", tall_box().export(file_type="ply")[:450], "cut short"),
        "truncated text ply": (
            "a.ply",
            tall_box().export(file_type="ply", encoding="ascii")[:-9],
            "12 faces and 11 can",
        ),
        "truncated off": ("a.off", tall_box().export(file_type="off").encode()[:-9], "12 faces and 11 can"),
        "text as glb": ("a.glb", b"hello, this is no mesh at all", "cut short"),
        "zip as obj": ("a.obj", b"PK\x03\x04" + bytes(range(256)), "cut short|no triangles"),
        "index beyond": ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n", "broken|cut short"),
        "json gltf": ("a.gltf", b'{"asset": {"version": "2.0"}}', "cut short|no triangles"),
    }


@pytest.mark.parametrize("case", broken_files())
def test_bad_files_are_refused_in_one_sentence(tmp_path, case):
    name, content, message = broken_files()[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_mesh(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_mesh(tmp_path / "none.glb")
    (tmp_path / "folder.glb").mkdir()
    with pytest.raises(ValueError, match="not a file"):
        load_mesh(tmp_path / "folder.glb")


def test_too_many_faces_are_said(tmp_path, monkeypatch):
    tall_box().export(tmp_path / "a.ply")
    monkeypatch.setattr(mesh_files, "MAX_FACES", 11)
    with pytest.raises(ValueError, match="has 12 triangles; at most 11"):
        load_mesh(tmp_path / "a.ply")


@pytest.mark.slow
def test_a_million_faces_work(tmp_path):
    from gmn_encoder.objects import render_views
    from gmn_encoder.rendering import cameras

    sphere = trimesh.creation.uv_sphere(count=[800, 800])
    sphere.export(tmp_path / "a.ply")
    mesh = load_mesh(tmp_path / "a.ply")
    assert mesh.n_faces > 1_000_000
    alpha = render_views(mesh, cameras.sphere(1, size=64))[0, ..., 3]
    assert 0.6 < (alpha > 0).mean() < 0.9  # a disc that fills the image: pi / 4


def test_radius_must_fit(tmp_path):
    tall_box().export(tmp_path / "a.ply")
    with pytest.raises(ValueError, match=r"radius is 0\.8"):
        load_mesh(tmp_path / "a.ply", radius=0.8)


def test_srgb_curve():
    # IEC 61966-2-1: 0.0031308 is the knee; 0.2140 linear is half of sRGB.
    np.testing.assert_allclose(
        linear_to_srgb(np.array([0.0, 0.0031308, 0.21404114, 1.0])), [0, 0.04045, 0.5, 1], atol=1e-5
    )
    values = np.linspace(0, 1, 50)
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(values)), values, atol=1e-7)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of real objects")
def test_real_objects():
    entries = json.loads((SHARED / "manifest.json").read_text())[::9]
    for entry in entries:
        mesh = load_mesh(SHARED / entry["file"], up=entry["up_axis"])
        size = np.array(entry["extents"])
        size = size if entry["up_axis"] == "z" else size[[0, 2, 1]]
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0) / np.linalg.norm(np.ptp(mesh.vertices, axis=0)),
                                   size / np.linalg.norm(size), atol=2e-3, err_msg=entry["file"])  # fmt: skip
        grey = any("no colour in the file" in note for note in mesh.notes)
        assert grey != entry["has_colour"], entry["file"]
        assert (len(mesh.textures) > 0) <= entry["has_texture"], entry["file"]
