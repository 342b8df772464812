"""glTF as other programs write it: compressed, quantised, transformed, incomplete, hostile."""

from __future__ import annotations

import copy
import json
import os
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

trimesh = pytest.importorskip("trimesh")

from gmn_encoder.extras import is_installed  # noqa: E402
from gmn_encoder.objects.colours import linear_to_srgb  # noqa: E402
from gmn_encoder.objects.gltf_checks import MOST_NODES  # noqa: E402
from gmn_encoder.objects.mesh_files import load_mesh  # noqa: E402
from gmn_encoder.objects.simplify import simplified  # noqa: E402

from .gltf_files import FACES, TEXTURED, TRIANGLES, UV, data_uri, picture, pyramid, written  # noqa: E402

QUARTERS = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]]
"""A texture of four colours: red and green above, blue and yellow below."""


def test_quantised_positions_are_the_same_mesh(tmp_path):
    plain = load_mesh(written(tmp_path, pyramid()))
    sizes = np.round(TRIANGLES * 32767).astype(np.int16)
    padded = np.concatenate([sizes, np.zeros((5, 1), np.int16)], axis=1)  # glTF aligns vertices to four bytes
    content = pyramid({"POSITION": padded}, normalized=("POSITION",), extensionsRequired=["KHR_mesh_quantization"])
    content["accessors"][0]["type"] = "VEC3"
    content["bufferViews"][0]["byteStride"] = 8
    content["nodes"] = [{"children": [1, 2]}, {"mesh": 0}, {"mesh": 0, "translation": [2, 0, 0]}]
    twice = pyramid(nodes=content["nodes"])
    ours, expected = load_mesh(written(tmp_path, content)), load_mesh(written(tmp_path, twice))
    np.testing.assert_allclose(ours.vertices, expected.vertices, atol=1e-4)
    assert ours.n_faces == 2 * plain.n_faces


def test_texture_transform_and_second_coordinates(tmp_path):
    image = {"uri": data_uri(picture(QUARTERS))}
    moved = {"extensions": {"KHR_texture_transform": {"offset": [0.5, 0.25], "scale": [0.5, 2.0], "rotation": 0.3}}}
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 1, **moved}}}
    content = pyramid({"TEXCOORD_0": UV * 0, "TEXCOORD_1": UV}, material=material, images=[image])
    mesh = load_mesh(written(tmp_path, content))
    u, v = UV[:, 0] * 0.5, UV[:, 1] * 2.0
    cos, sin = np.cos(0.3), np.sin(0.3)
    expected = np.stack([cos * u + sin * v + 0.5, -sin * u + cos * v + 0.25], axis=1)
    expected[:, 1] = 1 - expected[:, 1]  # v upwards
    difference = mesh.uv - expected[FACES.reshape(-1, 3)]
    np.testing.assert_allclose(difference, np.broadcast_to(np.round(difference[0, 0]), difference.shape), atol=1e-5)


def test_normalised_coordinates_are_floats(tmp_path):
    image = {"uri": data_uri(picture(QUARTERS))}
    short = np.round(UV * 65535).astype(np.uint16)
    content = pyramid({"TEXCOORD_0": short}, material=TEXTURED, images=[image], normalized=("TEXCOORD_0",))
    plain = pyramid({"TEXCOORD_0": UV}, material=TEXTURED, images=[image])
    ours, expected = load_mesh(written(tmp_path, content)), load_mesh(written(tmp_path, plain))
    np.testing.assert_allclose(ours.uv, expected.uv, atol=1e-4)


def test_vertex_colours_multiply_texture_and_factor(tmp_path):
    image = {"uri": data_uri(picture(QUARTERS))}
    colours = np.tile(np.array([[0.25, 1.0, 0.5]], np.float32), (5, 1))
    expected = np.rint(linear_to_srgb(np.array([0.25, 1.0, 0.5])) * 255)
    textured = pyramid({"TEXCOORD_0": UV, "COLOR_0": colours}, material=TEXTURED, images=[image])
    mesh = load_mesh(written(tmp_path, textured), up="y")
    assert len(mesh.textures) == 1 and mesh.notes == ()
    np.testing.assert_allclose(mesh.colours[0, 0, :3], expected, atol=1)
    factor = {"pbrMetallicRoughness": {"baseColorFactor": [1.0, 0.5, 1.0, 1.0]}}
    mesh = load_mesh(written(tmp_path, pyramid({"COLOR_0": colours}, material=factor)))
    half = np.rint(linear_to_srgb(np.array([0.25, 0.5, 0.5])) * 255)
    np.testing.assert_allclose(mesh.colours[0, 0, :3], half, atol=3)


@pytest.mark.skipif(not is_installed("DracoPy"), reason="needs DracoPy")
def test_draco_is_decoded(tmp_path):
    import DracoPy

    plain = load_mesh(written(tmp_path, pyramid()))
    data = DracoPy.encode(TRIANGLES, FACES.astype(np.uint32).reshape(-1, 3), quantization_bits=14, preserve_order=True)
    content = pyramid(extensionsRequired=["KHR_draco_mesh_compression"])
    content["bufferViews"] = [{"buffer": 0, "byteLength": len(data)}]
    content["buffers"] = [{"byteLength": len(data), "uri": data_uri(data)}]
    for accessor in content["accessors"]:
        del accessor["bufferView"]
    draco = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    content["meshes"][0]["primitives"][0]["extensions"] = draco
    mesh = load_mesh(written(tmp_path, content))
    np.testing.assert_allclose(np.sort(mesh.vertices, axis=0), np.sort(plain.vertices, axis=0), atol=1e-3)
    content["buffers"][0]["uri"] = data_uri(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(ValueError, match="Draco"):
        load_mesh(written(tmp_path, content))


def test_draco_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "DracoPy", None)
    content = pyramid(extensionsRequired=["KHR_draco_mesh_compression"])
    draco = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    content["meshes"][0]["primitives"][0]["extensions"] = draco
    with pytest.raises(ImportError, match=r"DracoPy is needed .*llana-gmn\[objects\]"):
        load_mesh(written(tmp_path, content))


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_texture_basisu", "KHR_made_up"])
def test_required_extensions_that_are_not_known_are_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"needs the glTF extension {name}"):
        load_mesh(written(tmp_path, pyramid(extensionsRequired=[name])))


def test_meshopt_without_a_plain_buffer_is_named(tmp_path):
    content = pyramid()
    del content["buffers"][0]["uri"]
    content["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    with pytest.raises(ValueError, match="EXT_meshopt_compression"):
        load_mesh(written(tmp_path, content))


def bomb() -> bytes:
    """A PNG that claims 60,000 x 60,000 pixels."""
    import zlib

    data = bytearray(picture(QUARTERS))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize(
    ("image", "note"),
    [
        ({"uri": "missing.png"}, "'missing.png' is missing"),
        ({"uri": data_uri(b"no picture")}, "no picture that can be read"),
        ({"uri": data_uri(bomb())}, "pixels"),
        ({"uri": data_uri(b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(64))}, "KTX2"),
    ],
)
def test_textures_that_cannot_be_shown_are_said_to_be(tmp_path, image, note):
    mesh = load_mesh(written(tmp_path, pyramid({"TEXCOORD_0": UV}, material=TEXTURED, images=[image])), up="y")
    assert len(mesh.notes) == 1 and note in mesh.notes[0] and "its colour is missing" in mesh.notes[0]
    kept = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}}
    mesh = load_mesh(written(tmp_path, pyramid({"TEXCOORD_0": UV}, material=kept, images=[image])))
    assert mesh.colours[0, 0].tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize(
    "uri", ["../outside.bin", "https://example.org/a.bin", "file:///etc/passwd", "/etc/passwd", "%2e%2e/outside.bin"]
)
def test_other_files_lie_beside_it_or_are_not_read(tmp_path, uri):
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    content = pyramid()
    content["buffers"][0]["uri"] = uri
    with pytest.raises(ValueError, match="expected a file beside it"):
        load_mesh(written(tmp_path / "in", content))
    with pytest.raises(ValueError, match="expected a file beside it"):
        image = pyramid({"TEXCOORD_0": UV}, material=TEXTURED, images=[{"uri": uri}])
        load_mesh(written(tmp_path / "in", image))


def test_buffers_beside_it_are_read_and_pipes_are_not(tmp_path):
    content = pyramid()
    import base64

    (tmp_path / "some data.bin").write_bytes(base64.b64decode(content["buffers"][0]["uri"].partition(",")[2]))
    content["buffers"][0]["uri"] = "some%20data.bin"
    assert load_mesh(written(tmp_path, content)).n_faces == 6
    os.mkfifo(tmp_path / "pipe.bin")
    content["buffers"][0]["uri"] = "pipe.bin"
    with pytest.raises(ValueError, match="no ordinary file"):
        load_mesh(written(tmp_path, content))
    (tmp_path / "a.obj").write_text("mtllib pipe.bin\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert load_mesh(tmp_path / "a.obj").n_faces == 1  # without its material, as where the file is missing


def _change(content: dict, *keys, value) -> dict:
    content = copy.deepcopy(content)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return content


def hostile() -> dict[str, tuple[dict, str]]:
    base = pyramid()
    nowhere = copy.deepcopy(base)
    del nowhere["accessors"][0]["bufferView"]
    nowhere["accessors"][0]["count"] = 1_000_000_000
    instances = _change(base, "nodes", value=[{"mesh": 0}] * (MOST_NODES + 1))
    circle = _change(base, "nodes", value=[{"children": [1]}, {"children": [0], "mesh": 0}])
    deep = _change(base, "nodes", value=[{"children": [n + 1]} for n in range(999)] + [{"mesh": 0}])
    return {
        "count without a buffer view": (nowhere, "accessor 0 has no data"),
        "count beyond the bytes": (_change(base, "accessors", 0, "count", value=10**9), "claims 1,000,000,000 elements"),
        "count of 400 digits": (_change(base, "accessors", 0, "count", value=10**400), "ordinary size"),
        "negative count": (_change(base, "accessors", 0, "count", value=-1), "ordinary size"),
        "instances": (instances, "at most 20,000"),
        "a circle of nodes": (circle, "two parents"),
        "nested nodes": (deep, "nested more than 200 deep"),
        "stride": (_change(base, "bufferViews", 0, "byteStride", value=0), "byteStride"),
        "view beyond the buffer": (_change(base, "bufferViews", 0, "byteLength", value=10**8), "ends at byte"),
        "buffer larger than its data": (_change(base, "buffers", 0, "byteLength", value=10**6), "cut short"),
        "index of a mesh": (_change(base, "nodes", 0, "mesh", value=7), "number 7 of 1 meshes"),
        "no list": (_change(base, "meshes", value={"0": 1}), "no list of objects"),
        "glTF 1": (_change(base, "asset", value={"version": "1.0"}), "is glTF 1"),
    }  # fmt: skip


@pytest.mark.parametrize("case", hostile())
def test_what_the_json_claims_is_checked_first(tmp_path, case):
    content, message = hostile()[case]
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_mesh(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**12) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


_WHOLE = pyramid({"TEXCOORD_0": UV}, material=TEXTURED, images=[{"uri": data_uri(picture(QUARTERS))}])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([path for path in _places(_WHOLE) if path]), _VALUES)
def test_any_value_in_any_place_is_read_or_refused_in_a_sentence(tmp_path, place, value):
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(_change(_WHOLE, *place, value=value)))
    try:
        mesh = load_mesh(path)
    except (ValueError, ImportError) as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert np.isfinite(mesh.vertices).all()


def test_a_mesh_of_several_primitives_is_the_same_every_time(tmp_path):
    content = pyramid()
    first = content["meshes"][0]["primitives"][0]
    content["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [n / 7, 0.5, 0.5, 1]}} for n in range(8)]
    content["meshes"][0]["primitives"] = [first | {"material": n} for n in range(8)]
    path = written(tmp_path, content)
    assert len({load_mesh(path).fingerprint() for _ in range(4)}) == 1


def test_huge_meshes_are_simplified_with_a_word(tmp_path):
    sphere = trimesh.creation.icosphere(subdivisions=4)
    sphere.export(tmp_path / "a.ply")
    mesh = load_mesh(tmp_path / "a.ply")
    smaller = simplified(mesh, most=2000)
    assert mesh.n_faces == 5120 and 500 < smaller.n_faces <= 2000
    assert smaller.notes[-1] == f"simplified from 5,120 to {smaller.n_faces:,} triangles for the views"
    radius = np.linalg.norm(smaller.vertices, axis=1)
    assert radius.min() > 0.95 * np.linalg.norm(mesh.vertices, axis=1).min()
    assert len(smaller.normals) == len(smaller.uv) == len(smaller.part) == smaller.n_faces
