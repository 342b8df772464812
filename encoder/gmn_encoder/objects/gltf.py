"""glTF files, checked and made plain before trimesh sees them.

The JSON of a glTF file says how much memory its reader takes and which other files it opens. Here it is checked first: counts
against the bytes that are there, a tree of nodes of ordinary size, files in the folder only. What comes out is one GLB in memory
that names no other file, with what trimesh leaves out done: Draco is decoded (DracoPy), normalised integers are floats
(KHR_mesh_quantization), texture coordinates are those of the base colour texture, transformed (KHR_texture_transform). Extensions
that a file requires and nothing here knows are refused by name.

Source: glTF 2.0 and the Khronos registry of its extensions.
"""

from __future__ import annotations

import base64
import binascii
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
from .confined import read_beside

MOST_BYTES = 1 << 30
"""Of a file and everything it names."""
MOST_NODES = 20_000
MOST_ELEMENTS = 60_000_000
"""Of all accessors together: three corners for each of `mesh_files.MAX_FACES` triangles, with neighbours shared."""
MOST_TEXELS = 64_000_000
"""Pixels of one texture."""

_DEEPEST = 200
_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others, some of which start programs
_COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_CODES = {np.dtype(kind).name: code for code, kind in _COMPONENTS.items()}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_DRACO, _TRANSFORM = "KHR_draco_mesh_compression", "KHR_texture_transform"
_KNOWN = (
    _DRACO,
    _TRANSFORM,
    "KHR_mesh_quantization",
    "EXT_texture_webp",
    "KHR_lights_punctual",
    "KHR_animation_pointer",
)
_MATERIALS = "KHR_materials_"  # change light and gloss, which views leave out


def plain_glb(path: Path) -> tuple[bytes, list[str]]:
    """A GLB with what a `.gltf` or `.glb` file shows, and sentences about what it lacks.

    Raises:
        ValueError: broken, too large, a required extension that is not known, or another file that may not be read; one sentence
            without the path.
        ImportError: a Draco-compressed file and no DracoPy.
    """
    content, binary = _read_parts(path)
    document = _Document(path, content, binary)
    document.check()
    document.make_plain()
    return document.glb(), document.notes


def _read_parts(path: Path) -> tuple[dict[str, Any], bytes | None]:
    """The JSON and the binary chunk of a file."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"has {path.stat().st_size >> 20:,} MiB; at most {MOST_BYTES >> 20:,} MiB are taken")
    data = path.read_bytes()
    binary = None
    if data[:4] == b"glTF":
        text, at = b"", 12
        version, length = struct.unpack_from("<II", data, 4) if len(data) >= 12 else (0, 0)
        if version != 2 or length > len(data):
            raise ValueError(f"is no GLB of version 2, or cut short ({len(data):,} of {length:,} bytes)")
        while at + 8 <= length:
            size, kind = struct.unpack_from("<II", data, at)
            if at + 8 + size > len(data):
                raise ValueError(f"is cut short: a chunk of {size:,} bytes begins at byte {at:,} of {len(data):,}")
            chunk = data[at + 8 : at + 8 + size]
            if kind == 0x4E4F534A and not text:
                text = chunk
            elif kind == 0x004E4942 and binary is None:
                binary = chunk
            at += 8 + size
    else:
        text = data
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("is nested too deeply; expected the JSON of a glTF file") from None
    except ValueError as error:
        raise ValueError(f"is no glTF, or cut short ({str(error)[:120]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}; expected the JSON object of a glTF file")
    return content, binary


class _Document:
    """The JSON of a glTF file while it is checked and rewritten; new data is appended to one buffer."""

    def __init__(self, path: Path, content: dict[str, Any], binary: bytes | None) -> None:
        self.path, self.content, self.binary = path, content, binary
        self.notes: list[str] = []
        self.lists = {
            name: self._objects(name)
            for name in ("buffers", "bufferViews", "accessors", "meshes", "nodes", "scenes", "images", "textures")
        }
        self.lists["materials"] = self._objects("materials")
        self.blob = bytearray()
        self.offsets: list[int] = []

    def _objects(self, name: str) -> list[dict[str, Any]]:
        values = self.content.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise ValueError(f"its '{name}' is no list of objects; expected glTF 2.0")
        return values

    def _at(self, name: str, index: Any, what: str) -> dict[str, Any]:
        values = self.lists[name]
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(values):
            raise ValueError(f"{what} names number {str(index)[:20]} of {len(values)} {name}; the file is broken")
        return values[index]

    def check(self) -> None:
        """Everything that decides how much is read and made."""
        asset = self.content.get("asset")
        version = str(asset.get("version", "2.0") if isinstance(asset, dict) else "2.0")
        if not version.startswith("2"):
            raise ValueError(f"is glTF {version[:20]}; expected version 2")
        required = self.content.get("extensionsRequired", [])
        for name in required if isinstance(required, list) else []:
            if name not in _KNOWN and not str(name).startswith(_MATERIALS):
                raise ValueError(
                    f"needs the glTF extension {str(name)[:80]}, which is not read here; export it without, or as plain glTF"
                )
        self._read_buffers()
        for view in self.lists["bufferViews"]:
            self._check_view(view)
        elements = sum(self._check_accessor(number) for number in range(len(self.lists["accessors"])))
        if elements > MOST_ELEMENTS:
            raise ValueError(
                f"has accessors of {elements:,} elements; at most {MOST_ELEMENTS:,} are taken: simplify the mesh"
            )
        self._check_nodes()

    def _read_buffers(self) -> None:
        total = 0
        for number, buffer in enumerate(self.lists["buffers"]):
            uri, length = buffer.get("uri"), _natural(buffer.get("byteLength"), "a buffer's byteLength")
            total += length
            if total > MOST_BYTES:
                raise ValueError(f"has buffers of {total:,} bytes; at most {MOST_BYTES:,} are taken")
            if uri is None:
                data = self.binary if number == 0 else None
                if data is None:
                    if any("EXT_meshopt_compression" in _extensions(view) for view in self.lists["bufferViews"]):
                        raise ValueError(
                            "needs the glTF extension EXT_meshopt_compression, which is not read here; export it without"
                        )
                    raise ValueError(f"its buffer {number} has no data; the file is cut short or was taken apart")
            else:
                data = self._uri_bytes(uri, f"its buffer {number}")
            if len(data) < length:
                raise ValueError(f"its buffer {number} has {len(data):,} of {length:,} bytes; it is cut short")
            self.offsets.append(len(self.blob))
            self.blob += data[:length] + b"\0" * (-length % 4)
        if not self.offsets:
            self.lists["buffers"].append({"byteLength": 0})
            self.offsets.append(0)

    def _uri_bytes(self, uri: Any, what: str) -> bytes:
        if not isinstance(uri, str):
            raise ValueError(f"{what} has a uri that is no text; the file is broken")
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=False)
            except (binascii.Error, ValueError):
                raise ValueError(f"{what} is no base64; the file is broken") from None
        return read_beside(self.path, uri, what, most=MOST_BYTES)

    def _check_view(self, view: dict[str, Any]) -> None:
        buffer = self._at("buffers", view.get("buffer"), "a bufferView")
        start = _natural(view.get("byteOffset", 0), "a bufferView's byteOffset")
        length = _natural(view.get("byteLength"), "a bufferView's byteLength")
        if start + length > buffer["byteLength"]:
            raise ValueError(f"a bufferView ends at byte {start + length:,} of a buffer of {buffer['byteLength']:,}")
        stride = view.get("byteStride")
        if stride is not None and not 1 <= _natural(stride, "a byteStride") <= 4096:
            raise ValueError(f"a bufferView has byteStride {stride}; expected 4 to 252")

    def _check_accessor(self, number: int) -> int:
        """Number of its elements, 0 if they are nowhere (Draco's are, and those of morph targets)."""
        accessor = self.lists["accessors"][number]
        count = _natural(accessor.get("count"), "an accessor's count")
        kind, width = _COMPONENTS.get(accessor.get("componentType", 0)), _WIDTHS.get(str(accessor.get("type")))
        if kind is None or width is None:
            raise ValueError(f"accessor {number} has no known type; expected glTF 2.0")
        if "bufferView" not in accessor:
            return 0
        view = self._at("bufferViews", accessor["bufferView"], "an accessor")
        row = width * np.dtype(kind).itemsize
        start = _natural(accessor.get("byteOffset", 0), "an accessor's byteOffset")
        needed = start + (max(count, 1) - 1) * (view.get("byteStride") or row) + row * (count > 0)
        if needed > view["byteLength"]:
            raise ValueError(
                f"accessor {number} claims {count:,} elements, {needed:,} bytes; there are {view['byteLength']:,}"
            )
        return count * (1 if width < 4 else -(-width // 3))

    def _check_nodes(self) -> None:
        """A forest of ordinary size and depth, walked once."""
        nodes = self.lists["nodes"]
        if len(nodes) > MOST_NODES:
            raise ValueError(f"has {len(nodes):,} nodes; at most {MOST_NODES:,} are taken: join its parts")
        scenes = self.lists["scenes"]
        scene = self._at("scenes", self.content.get("scene", 0), "its scene") if scenes else {}
        waiting = [(root, 1) for root in _list(scene.get("nodes"), "a scene's nodes")]
        seen: set[int] = set()
        while waiting:
            number, depth = waiting.pop()
            node = self._at("nodes", number, "a node")
            if number in seen:
                raise ValueError(f"its node {number} has two parents or is its own; expected a tree of nodes")
            if depth > _DEEPEST:
                raise ValueError(f"its nodes are nested more than {_DEEPEST} deep; expected an ordinary scene")
            seen.add(number)
            if "mesh" in node:
                self._at("meshes", node["mesh"], "a node")
            waiting += [(child, depth + 1) for child in _list(node.get("children"), "a node's children")]

    def make_plain(self) -> None:
        """Rewrite what trimesh does not read as it is meant, and drop what it need not read."""
        broken = [self._image_problem(number) for number in range(len(self.lists["images"]))]
        for material in self.lists["materials"]:
            self._drop_broken_texture(material, broken)
        used: set[int] = set()
        for mesh in self.lists["meshes"]:
            for primitive in _list(mesh.get("primitives"), "a mesh's primitives"):
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
        if (draco := _extensions(primitive).pop(_DRACO, None)) is not None:
            self._decode_draco(primitive, draco)
        for name in list(attributes):
            accessor = self._at("accessors", attributes[name], f"an attribute {name[:20]}")
            integers = accessor["componentType"] != 5126
            if name not in ("POSITION", "NORMAL", "COLOR_0") and not name.startswith("TEXCOORD_"):
                del attributes[name]
            elif integers and name != "COLOR_0" and "bufferView" in accessor:
                attributes[name] = self._add_accessor(self._values(accessor))
        if "indices" in primitive:
            self._at("accessors", primitive["indices"], "a primitive")
        if "POSITION" not in attributes:
            raise ValueError("a mesh has a primitive without positions; the file is broken")
        if "material" in primitive:
            material = self._at("materials", primitive["material"], "a primitive")
            self._plain_coordinates(attributes, material)
        for name in [name for name in attributes if name.startswith("TEXCOORD_") and name != "TEXCOORD_0"]:
            del attributes[name]

    def _plain_coordinates(self, attributes: dict[str, Any], material: dict[str, Any]) -> None:
        """TEXCOORD_0 as the base colour texture takes it."""
        texture = (material.get("pbrMetallicRoughness") or {}).get("baseColorTexture")
        if not isinstance(texture, dict):
            return
        transform = _extensions(texture).get(_TRANSFORM) or {}
        name = f"TEXCOORD_{transform.get('texCoord', texture.get('texCoord', 0))}"
        if name not in attributes:
            return
        if not transform:
            attributes["TEXCOORD_0"] = attributes[name]
            return
        uv = self._values(self._at("accessors", attributes[name], "texture coordinates"))[:, :2].astype(np.float64)
        try:
            offset = np.asarray(transform.get("offset", (0, 0)), np.float64).reshape(2)
            scale = np.asarray(transform.get("scale", (1, 1)), np.float64).reshape(2)
            turn = float(transform.get("rotation", 0))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"a texture has a {_TRANSFORM} that is no numbers; the file is broken") from None
        if not math.isfinite(turn):
            turn = 0.0
        cos, sin = math.cos(turn), math.sin(turn)
        moved = (uv * scale) @ np.array([[cos, -sin], [sin, cos]]) + offset
        attributes["TEXCOORD_0"] = self._add_accessor(moved.astype(np.float32))

    def _decode_draco(self, primitive: dict[str, Any], draco: Any) -> None:
        library: Any = require("DracoPy", "objects")
        if not isinstance(draco, dict) or not isinstance(draco.get("attributes"), dict):
            raise ValueError("its Draco compression names no attributes; the file is broken")
        view = self._at("bufferViews", draco.get("bufferView"), "Draco")
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
        kind, width, count = _COMPONENTS[accessor["componentType"]], _WIDTHS[accessor["type"]], accessor["count"]
        view = self._at("bufferViews", accessor.get("bufferView"), "an accessor")
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
                view = self._at("bufferViews", image["bufferView"], "an image")
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
        gloss = _extensions(material).get("KHR_materials_pbrSpecularGlossiness")
        for holder, name in ((material.get("pbrMetallicRoughness"), "baseColorTexture"), (gloss, "diffuseTexture")):
            if not isinstance(holder, dict):
                continue
            holder.pop("metallicRoughnessTexture", None)
            reference = holder.get(name)
            if not isinstance(reference, dict):
                continue
            texture = self._at("textures", reference.get("index"), "a material")
            source = _extensions(texture).get("EXT_texture_webp", {}).get("source", texture.get("source"))
            problem = "a texture is in a format that is not read here"
            if source is not None:
                self._at("images", source, "a texture")
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


def _extensions(value: dict[str, Any]) -> dict[str, Any]:
    extensions = value.get("extensions")
    return extensions if isinstance(extensions, dict) else {}


def _natural(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise ValueError(f"{what} is {str(value)[:40]}; expected a number of ordinary size")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{what} is a {type(value).__name__}; expected a list")
    return value
