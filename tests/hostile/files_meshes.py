"""glTF files whose JSON claims more than they hold, names other files, or leads in circles."""

from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path
from typing import Any

from .forged import written
from .pictures import png
from .registry import hostile, reader


@reader("mesh", extra="trimesh")
def load_mesh(path: Path) -> None:
    from gmn_encoder.objects import load_mesh

    load_mesh(path)


_POINTS = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)


def triangle(**top: Any) -> dict[str, Any]:
    """The JSON of one triangle, with other keys instead."""
    primitive = {"attributes": {"POSITION": 0}}
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": [{"bufferView": 0, "count": 3, "type": "VEC3", "componentType": 5126}],
        "bufferViews": [{"buffer": 0, "byteLength": len(_POINTS)}],
        "buffers": [{"byteLength": len(_POINTS), "uri": "data:;base64," + base64.b64encode(_POINTS).decode()}],
    } | top


def _gltf(folder: Path, content: Any) -> Path:
    return written(folder / "bad.gltf", json.dumps(content).encode())


@hostile("mesh")
def accessor_without_a_buffer_view(folder: Path) -> Path:
    """1e9 vertices that no buffer backs: 13 GiB of zeros."""
    return _gltf(folder, triangle(accessors=[{"count": 10**9, "type": "VEC3", "componentType": 5126}]))


@hostile("mesh")
def accessor_of_matrices(folder: Path) -> Path:
    return _gltf(folder, triangle(accessors=[{"count": 4 * 10**8, "type": "MAT4", "componentType": 5126}]))


@hostile("mesh")
def accessor_beyond_its_view(folder: Path) -> Path:
    accessor = {"bufferView": 0, "count": 10**12, "type": "VEC3", "componentType": 5126}
    return _gltf(folder, triangle(accessors=[accessor]))


@hostile("mesh")
def count_of_400_digits(folder: Path) -> Path:
    accessor = {"bufferView": 0, "count": 10**400, "type": "VEC3", "componentType": 5126}
    return _gltf(folder, triangle(accessors=[accessor]))


@hostile("mesh")
def instances(folder: Path) -> Path:
    """300,000 nodes that show one mesh."""
    nodes = [{"mesh": 0}] * 300_000
    return _gltf(folder, triangle(nodes=nodes, scenes=[{"nodes": list(range(300_000))}]))


@hostile("mesh")
def nodes_in_a_circle(folder: Path) -> Path:
    return _gltf(folder, triangle(nodes=[{"children": [1]}, {"mesh": 0, "children": [0]}]))


@hostile("mesh")
def a_chain_of_nodes(folder: Path) -> Path:
    chain = [{"children": [n + 1]} for n in range(15_000)]
    return _gltf(folder, triangle(nodes=[*chain, {"mesh": 0}]))


@hostile("mesh")
def buffer_is_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.bin")
    return _gltf(folder, triangle(buffers=[{"byteLength": len(_POINTS), "uri": "pipe.bin"}]))


@hostile("mesh")
def buffer_outside(folder: Path) -> Path:
    return _gltf(folder, triangle(buffers=[{"byteLength": 36, "uri": "../../../../../../etc/passwd"}]))


@hostile("mesh")
def buffer_at_a_url(folder: Path) -> Path:
    return _gltf(folder, triangle(buffers=[{"byteLength": 36, "uri": "http://127.0.0.1:9/a.bin"}]))


@hostile("mesh")
def buffer_of_gigabytes(folder: Path) -> Path:
    return _gltf(folder, triangle(buffers=[{"byteLength": 1 << 39, "uri": "data:;base64,AAAA"}]))


@hostile("mesh")
def deep_json(folder: Path) -> Path:
    return written(folder / "bad.gltf", b'{"asset":' + b"[" * 200_000)


@hostile("mesh")
def stride_of_zero(folder: Path) -> Path:
    view = {"buffer": 0, "byteLength": len(_POINTS), "byteStride": 0}
    return _gltf(folder, triangle(bufferViews=[view]))


@hostile("mesh")
def required_extension(folder: Path) -> Path:
    return _gltf(folder, triangle(extensionsRequired=["EXT_meshopt_compression"]))


@hostile("mesh")
def glb_of_one_long_chunk(folder: Path) -> Path:
    return written(folder / "bad.glb", struct.pack("<IIIII", 0x46546C67, 2, 0xFFFFFFFF, 0xFFFFFFF0, 0x4E4F534A))


@hostile("mesh", harmless=True)
def texture_of_gigabytes(folder: Path) -> Path:
    """A picture that claims 60,000 x 60,000 pixels: the mesh is shown without it, and it is said."""
    image = "data:image/png;base64," + base64.b64encode(png(60_000, 60_000, rows=1)).decode()
    content = triangle(
        images=[{"uri": image}],
        textures=[{"source": 0}],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    )
    content["meshes"][0]["primitives"][0]["material"] = 0
    return _gltf(folder, content)
