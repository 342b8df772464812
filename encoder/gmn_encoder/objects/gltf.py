"""glTF files, checked and made plain before trimesh sees them.

The JSON of a glTF file says how much memory its reader takes and which other files it opens. Here it is checked first: counts
against the bytes that are there, a tree of nodes of ordinary size, files in the folder only. What comes out is one GLB in memory
that names no other file, with what trimesh leaves out done: Draco is decoded (DracoPy), normalised integers are floats
(KHR_mesh_quantization), texture coordinates are those of the base colour texture, transformed (KHR_texture_transform). Extensions
that a file requires and nothing here knows are refused by name.

Source: glTF 2.0 and the Khronos registry of its extensions.
"""

from __future__ import annotations

import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extras import require
from .gltf_checks import COMPONENTS, DRACO, TRANSFORM, WIDTHS, CheckedDocument, extensions, listed, read_parts

MOST_TEXELS = 64_000_000
"""Pixels of one texture."""

_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others, some of which start programs
_CODES = {np.dtype(kind).name: code for code, kind in COMPONENTS.items()}


def plain_glb(path: Path) -> tuple[bytes, list[str]]:
    """A GLB with what a `.gltf` or `.glb` file shows, and sentences about what it lacks.

    Raises:
        ValueError: broken, too large, a required extension that is not known, or another file that may not be read; one sentence
            without the path.
        ImportError: a Draco-compressed file and no DracoPy.
    """
    content, binary = read_parts(path)
    document = _Document(path, content, binary)
    document.check()
    document.make_plain()
    return document.glb(), document.notes


class _Document(CheckedDocument):
    """A checked file while it is rewritten; new data is appended to its one buffer."""

    def make_plain(self) -> None:
        """Rewrite what trimesh does not read as it is meant, and drop what it need not read."""
        broken = [self._image_problem(number) for number in range(len(self.lists["images"]))]
        for material in self.lists["materials"]:
            self._drop_broken_texture(material, broken)
        used: set[int] = set()
        for mesh in self.lists["meshes"]:
            for primitive in listed(mesh.get("primitives"), "a mesh's primitives"):
                if not isinstance(primitive, dict) or not isinstance(primitive.get("attributes"), dict):
                    raise ValueError("a mesh has a primitive without attributes; the file is broken")
                self._plain_primitive(primitive)
                primitive.pop("targets", None)
                used.update(v for v in [*primitive["attributes"].values(), primitive.get("indices")] if v is not None)
        for number, accessor in enumerate(self.lists["accessors"]):
            if number in used and ("bufferView" not in accessor or "sparse" in accessor):
                raise ValueError(
                    f"accessor {number} has no data of its own (sparse or missing), which is not read here"
                )
            if number not in used:
                accessor.pop("bufferView", None)
                accessor.pop("sparse", None)
                accessor["count"] = 0
        for name in ("animations", "skins", "cameras"):
            self.content.pop(name, None)
        for node in self.lists["nodes"]:
            node.pop("camera", None)

    def _plain_primitive(self, primitive: dict[str, Any]) -> None:
        attributes = primitive["attributes"]
        if (draco := extensions(primitive).pop(DRACO, None)) is not None:
            self._decode_draco(primitive, draco)
        for name in list(attributes):
            accessor = self.at_number("accessors", attributes[name], f"an attribute {name[:20]}")
            integers = accessor["componentType"] != 5126
            if name not in ("POSITION", "NORMAL", "COLOR_0") and not name.startswith("TEXCOORD_"):
                del attributes[name]
            elif integers and name != "COLOR_0" and "bufferView" in accessor:
                attributes[name] = self._add_accessor(self._values(accessor))
        if "indices" in primitive:
            self.at_number("accessors", primitive["indices"], "a primitive")
        if "POSITION" not in attributes:
            raise ValueError("a mesh has a primitive without positions; the file is broken")
        if "material" in primitive:
            material = self.at_number("materials", primitive["material"], "a primitive")
            self._plain_coordinates(attributes, material)
        for name in [name for name in attributes if name.startswith("TEXCOORD_") and name != "TEXCOORD_0"]:
            del attributes[name]

    def _plain_coordinates(self, attributes: dict[str, Any], material: dict[str, Any]) -> None:
        """TEXCOORD_0 as the base colour texture takes it."""
        texture = (material.get("pbrMetallicRoughness") or {}).get("baseColorTexture")
        if not isinstance(texture, dict):
            return
        transform = extensions(texture).get(TRANSFORM) or {}
        name = f"TEXCOORD_{transform.get('texCoord', texture.get('texCoord', 0))}"
        if name not in attributes:
            return
        if not transform:
            attributes["TEXCOORD_0"] = attributes[name]
            return
        uv = self._values(self.at_number("accessors", attributes[name], "texture coordinates"))[:, :2].astype(
            np.float64
        )
        try:
            offset = np.asarray(transform.get("offset", (0, 0)), np.float64).reshape(2)
            scale = np.asarray(transform.get("scale", (1, 1)), np.float64).reshape(2)
            turn = float(transform.get("rotation", 0))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"a texture has a {TRANSFORM} that is no numbers; the file is broken") from None
        if not math.isfinite(turn):
            turn = 0.0
        cos, sin = math.cos(turn), math.sin(turn)
        moved = (uv * scale) @ np.array([[cos, -sin], [sin, cos]]) + offset
        attributes["TEXCOORD_0"] = self._add_accessor(moved.astype(np.float32))

    def _decode_draco(self, primitive: dict[str, Any], draco: Any) -> None:
        library: Any = require("DracoPy", "objects")
        if not isinstance(draco, dict) or not isinstance(draco.get("attributes"), dict):
            raise ValueError("its Draco compression names no attributes; the file is broken")
        view = self.at_number("bufferViews", draco.get("bufferView"), "Draco")
        start = self.offsets[view["buffer"]] + view.get("byteOffset", 0)
        try:
            decoded = library.decode(bytes(memoryview(self.blob)[start : start + view["byteLength"]]))
        except Exception as error:  # the decoder's own kinds
            raise ValueError(f"its Draco compression cannot be decoded ({str(error)[:120]})") from error
        by_id = {attribute["unique_id"]: attribute["data"] for attribute in decoded.attributes}
        for name, identifier in draco["attributes"].items():
            if name in primitive["attributes"]:
                if identifier not in by_id:
                    raise ValueError(f"its Draco compression lacks the attribute {str(name)[:20]}; the file is broken")
                primitive["attributes"][name] = self._add_accessor(np.asarray(by_id[identifier]))
        primitive["indices"] = self._add_accessor(np.asarray(decoded.faces).reshape(-1, 1).astype(np.uint32))
        primitive["mode"] = 4

    def _values(self, accessor: dict[str, Any]) -> NDArray[np.float32]:
        """Elements ``(count, width)`` of an accessor as floats: normalised integers are brought to 0..1 or -1..1."""
        kind, width, count = COMPONENTS[accessor["componentType"]], WIDTHS[accessor["type"]], accessor["count"]
        view = self.at_number("bufferViews", accessor.get("bufferView"), "an accessor")
        start = self.offsets[view["buffer"]] + view.get("byteOffset", 0)
        data = bytes(memoryview(self.blob)[start : start + view["byteLength"]])
        size = np.dtype(kind).itemsize
        strides = (view.get("byteStride") or width * size, size)
        values = np.ndarray((count, width), kind, data, accessor.get("byteOffset", 0), strides)
        if accessor.get("normalized") is True and np.dtype(kind).kind in "iu":
            most = float(np.iinfo(values.dtype).max)
            return np.maximum(values.astype(np.float64) / most, -1).astype(np.float32)
        return values.astype(np.float32)

    def _add_accessor(self, values: NDArray) -> int:
        values = np.ascontiguousarray(values if values.ndim == 2 else values.reshape(len(values), -1))
        if values.dtype.name not in _CODES:
            values = values.astype(np.float32)
        if values.shape[1] not in (1, 2, 3, 4):
            raise ValueError(f"an attribute has {values.shape[1]} numbers for each vertex; the file is broken")
        self.blob += b"\0" * (-len(self.blob) % 4)
        # Relative to the first buffer, which begins where everything does.
        view = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": values.nbytes}
        self.blob += values.tobytes()
        self.lists["bufferViews"].append(view)
        accessor = {
            "bufferView": len(self.lists["bufferViews"]) - 1,
            "componentType": _CODES[values.dtype.name],
            "count": len(values),
            "type": ("SCALAR", "VEC2", "VEC3", "VEC4")[values.shape[1] - 1],
        }
        self.lists["accessors"].append(accessor)
        return len(self.lists["accessors"]) - 1

    def _image_problem(self, number: int) -> str | None:
        """What keeps an image from being shown; its bytes move into the buffer."""
        image = self.lists["images"][number]
        try:
            if "bufferView" in image:
                view = self.at_number("bufferViews", image["bufferView"], "an image")
                start = self.offsets[view["buffer"]] + view.get("byteOffset", 0)
                data = bytes(memoryview(self.blob)[start : start + view["byteLength"]])
            else:
                data = self._uri_bytes(image.get("uri"), f"its texture {str(image.get('uri'))[:80]!r}")
                image.pop("uri", None)
                self.blob += b"\0" * (-len(self.blob) % 4)
                view = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data)}
                self.blob += data
                self.lists["bufferViews"].append(view)
                image["bufferView"] = len(self.lists["bufferViews"]) - 1
        except FileNotFoundError as error:
            return str(error)
        if data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n":
            return "a texture is KTX2 (KHR_texture_basisu), which is not read here"
        try:
            with Image.open(io.BytesIO(data), formats=_PICTURES) as picture:
                width, height = picture.size
        except Image.DecompressionBombError:
            return "a texture claims more pixels than any texture has"
        except Exception:  # whatever the head of a broken picture leads Pillow to
            return "a texture is no picture that can be read"
        if width * height > MOST_TEXELS:
            return f"a texture claims {width:,} x {height:,} pixels; at most {MOST_TEXELS:,} are taken"
        return None

    def _drop_broken_texture(self, material: dict[str, Any], broken: list[str | None]) -> None:
        """Textures other than the base colour go, and that too where its image is broken, with a note."""
        for name in ("normalTexture", "occlusionTexture", "emissiveTexture"):
            material.pop(name, None)
        gloss = extensions(material).get("KHR_materials_pbrSpecularGlossiness")
        for holder, name in ((material.get("pbrMetallicRoughness"), "baseColorTexture"), (gloss, "diffuseTexture")):
            if not isinstance(holder, dict):
                continue
            holder.pop("metallicRoughnessTexture", None)
            reference = holder.get(name)
            if not isinstance(reference, dict):
                continue
            texture = self.at_number("textures", reference.get("index"), "a material")
            source = extensions(texture).get("EXT_texture_webp", {}).get("source", texture.get("source"))
            problem = "a texture is in a format that is not read here"
            if source is not None:
                self.at_number("images", source, "a texture")
                problem = broken[source] or ""
            if problem:
                holder.pop(name)
                holder.setdefault("baseColorFactor" if holder is not gloss else "diffuseFactor", [0.6, 0.6, 0.6, 1.0])
                note = f"{problem}: its colour is missing"
                if note not in self.notes:
                    self.notes.append(note)

    def glb(self) -> bytes:
        """Everything in one buffer."""
        views = []
        for view in self.lists["bufferViews"]:
            own = {key: view[key] for key in ("byteLength", "byteStride") if key in view}
            start = self.offsets[view["buffer"]] + view.get("byteOffset", 0)
            views.append(own | {"buffer": 0, "byteOffset": start})
        content = self.content | self.lists | {"bufferViews": views, "buffers": [{"byteLength": len(self.blob)}]}
        content = {name: value for name, value in content.items() if value != []}
        for name in ("extensionsRequired", "extensionsUsed"):
            content.pop(name, None)
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % 4)
        blob = bytes(self.blob) + b"\0" * (-len(self.blob) % 4)
        body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
        return struct.pack("<III", 0x46546C67, 2, 12 + len(body)) + body
