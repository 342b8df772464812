"""What a glTF file claims, compared with what is there, before anything is made from it: the first half of `gltf`.

Source: glTF 2.0.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .confined import read_beside

MOST_BYTES = 1 << 30
"""Of a file and everything it names."""
MOST_NODES = 20_000
MOST_ELEMENTS = 60_000_000
"""Of all accessors together: three corners for each of `mesh_files.MAX_FACES` triangles, with neighbours shared."""

_DEEPEST = 200
COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
DRACO, TRANSFORM = "KHR_draco_mesh_compression", "KHR_texture_transform"
_KNOWN = (
    DRACO,
    TRANSFORM,
    "KHR_mesh_quantization",
    "EXT_texture_webp",
    "KHR_lights_punctual",
    "KHR_animation_pointer",
)
_MATERIALS = "KHR_materials_"  # change light and gloss, which views leave out


def read_parts(path: Path) -> tuple[dict[str, Any], bytes | None]:
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


class CheckedDocument:
    """The JSON of a glTF file and what its buffers hold, one after the other in `blob` from `offsets` on."""

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

    def at_number(self, name: str, index: Any, what: str) -> dict[str, Any]:
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
                    if any("EXT_meshopt_compression" in extensions(view) for view in self.lists["bufferViews"]):
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
        buffer = self.at_number("buffers", view.get("buffer"), "a bufferView")
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
        kind, width = COMPONENTS.get(accessor.get("componentType", 0)), WIDTHS.get(str(accessor.get("type")))
        if kind is None or width is None:
            raise ValueError(f"accessor {number} has no known type; expected glTF 2.0")
        if "bufferView" not in accessor:
            return 0
        view = self.at_number("bufferViews", accessor["bufferView"], "an accessor")
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
        scene = self.at_number("scenes", self.content.get("scene", 0), "its scene") if scenes else {}
        waiting = [(root, 1) for root in listed(scene.get("nodes"), "a scene's nodes")]
        seen: set[int] = set()
        while waiting:
            number, depth = waiting.pop()
            node = self.at_number("nodes", number, "a node")
            if number in seen:
                raise ValueError(f"its node {number} has two parents or is its own; expected a tree of nodes")
            if depth > _DEEPEST:
                raise ValueError(f"its nodes are nested more than {_DEEPEST} deep; expected an ordinary scene")
            seen.add(number)
            if "mesh" in node:
                self.at_number("meshes", node["mesh"], "a node")
            waiting += [(child, depth + 1) for child in listed(node.get("children"), "a node's children")]


def extensions(value: dict[str, Any]) -> dict[str, Any]:
    extensions = value.get("extensions")
    return extensions if isinstance(extensions, dict) else {}


def _natural(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise ValueError(f"{what} is {str(value)[:40]}; expected a number of ordinary size")
    return value


def listed(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{what} is a {type(value).__name__}; expected a list")
    return value
