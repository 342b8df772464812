"""Snapshots of instant-ngp: `.msgpack`, and `.ingp`, which is the same compressed.

The world is that of the data set: what the snapshot says about its scale, offset and axes is undone, and a density per unit is
one of these units. Source: Mueller et al. (2022) and the layout that the program writes; tiny-cuda-nn's rules are
docs/released_format.md#hash-grid with other sizes.

Shapes: S points.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...extras import require
from ..fields import Box
from .base import Contents, ForeignField, Importer, Vector, register_importer
from .encodings import (
    GridLevel,
    grid_features,
    linear_layers,
    padded_network_shapes,
    relu_network,
    spherical_harmonics,
    tcnn_levels,
)
from .occupancy import cascades_from_morton, occupied_at

_LARGEST = 1 << 30
"""Bytes that a snapshot may have decompressed."""
_RATIO, _ROOM = 8, 64 << 20
"""How many times its file's size a snapshot may have, and bytes besides: weights hardly shrink, empty voxels do."""
_MOST_ITEMS = 1 << 16  # in a list or map of it
_DENSITY_OUTPUTS, _HARMONICS = 16, 16
_GRID_TYPES = ("hashgrid", "multiresolutionhashgrid", "grid")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class InstantNgpField(ForeignField):
    """A snapshot's field in the world of its data set.

    Its tensors: `table`, `density.N`, `colour.N` and, where the snapshot has one, `occupied` (see `occupied_at`).

    Attributes:
        levels: of the hash grid.
        scale, offset: a point ``p`` of the data set is at ``cycle(p * scale + offset)`` of the unit cube.
        cycled: whether axes are cycled, (x, y, z) to (y, z, x).
        lowest, highest: of what is rendered, in the unit cube's coordinates; and `cube`, corner and side of the encoded one.
        hdr: whether colours are exponentials.
        extra: learnt numbers of each image that the colour network reads; zeros stand for them.
    """

    levels: tuple[GridLevel, ...]
    scale: float
    offset: Vector
    cycled: bool
    lowest: Vector
    highest: Vector
    cube: tuple[Vector, float]
    hdr: bool
    extra: int

    def density(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        place = xyz * self.scale + xyz.new_tensor(self.offset)
        place = place.roll(-1, dims=-1) if self.cycled else place
        low, high = place.new_tensor(self.lowest), place.new_tensor(self.highest)
        inside = ((place > low) & (place < high)).all(dim=-1, keepdim=True)
        if "occupied" in self.tensors:
            halves = [0.5 * 2**cascade for cascade in range(len(self.tensors["occupied"]))]
            inside = inside & occupied_at(self.tensors["occupied"], halves, place - 0.5)
        u = (place - place.new_tensor(self.cube[0])) / self.cube[1]
        features = grid_features(self.tensors["table"], self.levels, u * inside)
        raw = relu_network(features, self._matrices("density"))
        return torch.exp(raw[:, :1]) * self.scale * inside, raw[:, :_DENSITY_OUTPUTS]

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        looks = directions.roll(-1, dims=-1) if self.cycled else directions
        parts = [features, spherical_harmonics(looks), features.new_zeros(len(features), self.extra)]
        raw = relu_network(torch.cat(parts, dim=-1), self._matrices("colour"))[:, :3]
        return torch.exp(raw).clamp(max=1) if self.hdr else torch.sigmoid(raw)

    def _matrices(self, name: str) -> list[Tensor]:
        count = sum(key.startswith(f"{name}.") for key in self.tensors)
        return [self.tensors[f"{name}.{number}"] for number in range(count)]


class InstantNgpImporter(Importer):
    """Snapshots of NeRFs; those of other kinds, and other encodings than the hash grid, are refused by name."""

    name = "instant-ngp"
    suffixes = (".ingp", ".msgpack")

    def recognises(self, contents: Contents) -> bool:
        head = contents.head
        if head[:2] in (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
            try:
                head = zlib.decompressobj(wbits=47).decompress(head, len(contents.head) * 4)
            except zlib.error:
                return False
        # A map of up to 15, 65535 or more items whose keys are texts.
        is_map = bool(head) and (head[0] & 0xF0 == 0x80 or head[0] in (0xDE, 0xDF))
        first = {0xDE: 3, 0xDF: 5}.get(head[0], 1) if is_map else 0
        return is_map and len(head) > first and (head[first] & 0xE0 == 0xA0 or head[first] in (0xD9, 0xDA))

    def read(self, contents: Contents) -> ForeignField:
        config = _unpacked(contents)
        snapshot = config.get("snapshot")
        if not isinstance(snapshot, Mapping) or "params_binary" not in snapshot:
            found = ", ".join(repr(str(key)) for key in list(config)[:4]) or "nothing"
            raise ValueError(f"holds no 'snapshot' with weights; found {found}; expected a snapshot of instant-ngp")
        if (mode := str(snapshot.get("mode", "nerf")).lower()) != "nerf":
            raise ValueError(f"is a snapshot of a {mode}; expected one of a NeRF (mode 'nerf')")
        scene = _mapping(snapshot, "nerf")
        dataset = _mapping(scene, "dataset")
        aabb_scale = _number(scene.get("aabb_scale", dataset.get("aabb_scale", 1)), "aabb_scale", 1, 1 << 20)
        cube = _corners(snapshot.get("aabb"), aabb_scale)
        extra = int(_number(dataset.get("n_extra_learnable_dims", 0), "n_extra_learnable_dims", 0, 1024))
        sizes = _grid_sizes(_mapping(config, "encoding"), aabb_scale)
        _check_directions(_mapping(config, "dir_encoding"))
        shapes = {
            "density": _network(_mapping(config, "network"), sizes["levels"] * sizes["features"], _DENSITY_OUTPUTS, 1),
            "colour": _network(_mapping(config, "rgb_network"), _DENSITY_OUTPUTS + _HARMONICS + extra, 3, 2),
        }
        levels = tcnn_levels(sizes["levels"], sizes["base_resolution"], sizes["growth"], sizes["log2_table_size"])
        tensors = _tensors(snapshot, shapes, levels, sizes["features"])
        notes = ["what images have of their own is left at zero"] if extra else []
        occupied = _occupied(snapshot, aabb_scale)
        scale = _number(dataset.get("scale", 0.33), "scale", 1e-9, 1e9)
        offset = _vector(dataset.get("offset", (0.5, 0.5, 0.5)), "offset")
        cycled = not dataset.get("from_mitsuba", False)
        low, high = _corners(snapshot.get("render_aabb"), aabb_scale) if snapshot.get("render_aabb") else cube
        low = _vector([max(a, b) for a, b in zip(low, cube[0], strict=True)], "render_aabb")
        high = _vector([min(a, b) for a, b in zip(high, cube[1], strict=True)], "render_aabb")
        up = _vector(snapshot.get("up_dir", (0.0, 1.0, 0.0)), "up_dir")
        return InstantNgpField(
            kind="instant-ngp snapshot",
            source=contents.path,
            box=_box(low, high, scale, offset, cycled),
            tensors={**tensors, **({"occupied": occupied} if occupied is not None else {})},
            up=_uncycled(up) if cycled else up,
            view_dependent=True,
            bounded=aabb_scale <= 1,
            viewpoints="hemisphere",
            camera_distance=None if aabb_scale <= 1 else 0.5 / scale,
            step=math.sqrt(3) / 1024 / scale,
            sizes={
                "version": snapshot.get("version"),
                **sizes,
                "aabb_scale": aabb_scale,
                "scale": scale,
                "offset": list(offset),
                "images": len(dataset.get("xforms") or ()),
                "step": snapshot.get("training_step"),
            },
            notes=tuple(notes),
            levels=tuple(levels),
            scale=scale,
            offset=offset,
            cycled=cycled,
            lowest=low,
            highest=high,
            cube=(cube[0], cube[1][0] - cube[0][0]),
            hdr=bool(dataset.get("is_hdr", False)),
            extra=extra,
        )


def _unpacked(contents: Contents) -> dict[str, Any]:
    """What the file holds, decompressed and unpacked within bounds."""
    msgpack = require("msgpack", "foreign")
    data = _decompressed(contents)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            max_array_len=_MOST_ITEMS,
            max_map_len=_MOST_ITEMS,
            max_ext_len=1 << 10,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        reason = "too deep" if isinstance(error, msgpack.StackError) else str(error)[:100] or type(error).__name__
        raise ValueError(
            f"is no msgpack file, or cut short ({reason}); expected a snapshot as instant-ngp saves it"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}; expected the map that a snapshot of instant-ngp is")
    return value


def _decompressed(contents: Contents) -> bytes:
    if contents.size > _LARGEST:
        raise ValueError(f"has {contents.size:,} bytes; expected a snapshot of at most {_LARGEST:,}")
    data = contents.path.read_bytes()
    if data[:1] not in (b"\x1f", b"\x78"):
        return data
    reader, most = zlib.decompressobj(wbits=47), min(_LARGEST, _RATIO * len(data) + _ROOM)
    try:
        plain = reader.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"its compressed data are broken ({error}); expected a whole snapshot") from error
    if len(plain) > most:
        raise ValueError(f"decompresses to more than {most:,} bytes; expected a snapshot of at most that many")
    if not reader.eof:
        raise ValueError("its compressed data are cut short; expected a whole snapshot")
    return plain


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{key!r} is a {type(found).__name__}; expected a map")
    return found


def _number(value: Any, name: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; expected a number from {least:g} to {most:g}")
    return float(value)


def _vector(value: Any, name: str) -> Vector:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"{name} is {value!r}; expected three numbers")
    x, y, z = (_number(part, name, -1e9, 1e9) for part in value)
    return x, y, z


def _corners(value: Any, aabb_scale: float) -> tuple[Vector, Vector]:
    """Lowest and highest corner of a box; by default the cube of side `aabb_scale` about the middle of the unit cube."""
    if value is None:
        half = aabb_scale / 2
        return (0.5 - half,) * 3, (0.5 + half,) * 3
    if not isinstance(value, Mapping):
        raise ValueError(f"a box is {value!r}; expected its 'min' and 'max'")
    low, high = _vector(value.get("min"), "min of a box"), _vector(value.get("max"), "max of a box")
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"a box reaches from {low} to {high}; expected a lowest and a highest corner")
    return low, high


def _grid_sizes(encoding: Mapping[str, Any], aabb_scale: float) -> dict[str, Any]:
    kind = str(encoding.get("otype", "HashGrid"))
    if kind.lower() not in _GRID_TYPES or str(encoding.get("type", "Hash")).lower() != "hash":
        raise ValueError(f"its encoding is {kind!r}; expected HashGrid, which alone is read")
    if str(encoding.get("interpolation", "Linear")).lower() != "linear":
        raise ValueError(f"its hash grid interpolates {encoding['interpolation']!r}; expected Linear")
    features = int(_number(encoding.get("n_features_per_level", 2), "n_features_per_level", 1, 8))
    default = _number(encoding.get("n_features", 0), "n_features", 0, 1024) // features or 16
    levels = int(_number(encoding.get("n_levels", default), "n_levels", 1, 64))
    base = int(_number(encoding.get("base_resolution", 16), "base_resolution", 1, 1 << 12))
    growth = encoding.get("per_level_scale")
    if not growth:
        growth = math.exp(math.log(2048 * aabb_scale / base) / max(levels - 1, 1))
    return {
        "levels": levels,
        "features": features,
        "base_resolution": base,
        "growth": _number(growth, "per_level_scale", 1, 16),
        "log2_table_size": int(_number(encoding.get("log2_hashmap_size", 19), "log2_hashmap_size", 1, 24)),
    }


def _check_directions(encoding: Mapping[str, Any]) -> None:
    """Only spherical harmonics of degree 4, alone or as the first part of a composite, are read."""
    parts = encoding.get("nested")
    first = parts[0] if isinstance(parts, list) and parts and isinstance(parts[0], Mapping) else encoding
    kind, degree = str(first.get("otype", "SphericalHarmonics")), first.get("degree", 4)
    if kind.lower() != "sphericalharmonics" or degree != 4:
        raise ValueError(
            f"directions are encoded by {kind!r} of degree {degree!r}; expected SphericalHarmonics of degree 4"
        )


def _network(network: Mapping[str, Any], inputs: int, outputs: int, layers: int) -> list[tuple[int, int]]:
    if str(network.get("activation", "ReLU")).lower() != "relu":
        raise ValueError(f"a network has the activation {network['activation']!r}; expected ReLU")
    width = int(_number(network.get("n_neurons", 64), "n_neurons", 1, 1024))
    depth = int(_number(network.get("n_hidden_layers", layers), "n_hidden_layers", 0, 64))
    if depth == 0:
        raise ValueError("a network has no hidden layer; expected at least one")
    return padded_network_shapes(inputs, width, depth, outputs)


def _tensors(
    snapshot: Mapping[str, Any], shapes: Mapping[str, list[tuple[int, int]]], levels: list[GridLevel], features: int
) -> dict[str, Tensor]:
    """The tensors in the order in which the program stores them: density network, colour network, grid."""
    half = snapshot.get("params_type", "__half") == "__half"
    flat = _array(snapshot["params_binary"], np.float16 if half else np.float32, "params_binary")
    counts = {name: sum(rows * columns for rows, columns in each) for name, each in shapes.items()}
    rows = sum(level.entries for level in levels)
    expected = sum(counts.values()) + rows * features
    if len(flat) != expected:
        raise ValueError(
            f"has {len(flat):,} weights; its networks and its hash grid of {len(levels)} levels have {expected:,}: "
            "expected a whole snapshot of a hash-grid NeRF"
        )
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("has NaN or infinite weights; expected finite ones")
    tensors, first = {}, 0
    for name, each in shapes.items():
        for number, matrix in enumerate(linear_layers(flat[first : first + counts[name]], each)):
            tensors[f"{name}.{number}"] = matrix
        first += counts[name]
    return {**tensors, "table": flat[first:].view(rows, features)}


def _array(data: Any, dtype: type, name: str) -> Tensor:
    if not isinstance(data, bytes) or len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{name} is no row of {np.dtype(dtype).name} numbers; expected a whole snapshot")
    return torch.from_numpy(np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).astype(np.float32))


def _occupied(snapshot: Mapping[str, Any], aabb_scale: float) -> Tensor | None:
    """The density grid's occupied voxels, as `occupied_at` takes them; None where the snapshot has no grid."""
    if not snapshot.get("density_grid_binary"):
        return None
    size = int(_number(snapshot.get("density_grid_size", 128), "density_grid_size", 1, 512))
    values = _array(snapshot["density_grid_binary"], np.float16, "density_grid_binary")
    cascades = math.ceil(math.log2(aabb_scale)) + 1
    if size & (size - 1) or len(values) % size**3 or len(values) // size**3 < cascades:
        raise ValueError(f"its density grid has {len(values):,} voxels; expected {cascades} grids of {size}^3")
    grids = values.view(-1, size**3)
    limit = min(0.01, float(grids[0].clamp(min=0).mean()))
    return cascades_from_morton(grids > limit)


def _uncycled(vector: Vector) -> Vector:
    x, y, z = vector
    return z, x, y


def _box(low: Vector, high: Vector, scale: float, offset: Vector, cycled: bool) -> Box:
    """A box of the unit cube's coordinates in the data set's."""
    corners = []
    for corner in (low, high):
        turned = _uncycled(corner) if cycled else corner
        x, y, z = ((part - away) / scale for part, away in zip(turned, offset, strict=True))
        corners.append((x, y, z))
    return corners[0], corners[1]


register_importer(InstantNgpImporter())
