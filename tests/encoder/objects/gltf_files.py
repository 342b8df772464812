"""glTF files written by hand, number by number."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRIANGLES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]], np.float32)
FACES = np.array([0, 1, 2, 0, 2, 3, 0, 1, 4, 1, 2, 4, 2, 3, 4, 3, 0, 4], np.uint16)
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], np.float32)
_KINDS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}


def picture(pixels, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def pyramid(
    attributes: dict[str, Any] | None = None,
    *,
    material: dict | None = None,
    images: list[dict] | None = None,
    normalized: tuple[str, ...] = (),
    **top: Any,
) -> dict[str, Any]:
    """The JSON of a pyramid; `attributes` instead of or beside its positions, `top` instead of or beside its other keys."""
    arrays = {"POSITION": TRIANGLES, **(attributes or {})}
    blob, views, accessors = b"", [], []
    for name, array in [*arrays.items(), ("indices", FACES)]:
        array = np.ascontiguousarray(array)
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        width = 1 if array.ndim == 1 else array.shape[1]
        accessor = {
            "bufferView": len(views) - 1,
            "count": len(array),
            "type": ("SCALAR", "VEC2", "VEC3", "VEC4")[width - 1],
            "componentType": _KINDS[array.dtype.name],
        }
        accessors.append(accessor | ({"normalized": True} if name in normalized else {}))
        blob += array.tobytes() + b"\0" * (-array.nbytes % 4)
    primitive: dict[str, Any] = {"attributes": {name: n for n, name in enumerate(arrays)}, "indices": len(arrays)}
    content: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob), "uri": data_uri(blob)}],
    }
    if material is not None:
        primitive["material"] = 0
        content["materials"] = [material]
    if images is not None:
        content |= {"images": images, "textures": [{"source": n} for n in range(len(images))]}
    return content | top


def data_uri(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def written(folder: Path, content: Any, name: str = "a.gltf") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


TEXTURED = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
