"""Splats in PLY files: the layout of the original code with its variants, and the compressed one of PlayCanvas.

Original: binary floats x y z, f_dc_* and f_rest_* (spherical harmonics, f_rest channel by channel), opacity (a logit), scale_*
(logarithms), rot_* (quaternion w, x, y, z). Variants: red green blue in place of f_dc; two scales (disks, of 2D splatting); no
f_rest. Compressed: the table "chunk" holds the lowest and highest values of every 256 splats, "vertex" packs each splat into
four integers, "sh" has bytes for the rest of the harmonics.

Shapes: N splats, C chunks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .ply import PlyHeader, columns, read_elements
from .record import (
    UP_Y_DOWN,
    UP_Z,
    Splats,
    check_coefficients,
    exp,
    harmonics_from_channels,
    harmonics_of_colours,
    make_splats,
    quaternions_from_three,
    sigmoid,
)

_CHUNK = 256
_XYZ, _RGB = ("x", "y", "z"), ("red", "green", "blue")
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_LIMITS = [f"{end}_{name}" for name in ("x", "y", "z", "scale_x", "scale_y", "scale_z") for end in ("min", "max")]
_COLOUR_LIMITS = [f"{end}_{name}" for name in "rgb" for end in ("min", "max")]


def is_splat_ply(header: PlyHeader) -> bool:
    """Whether a PLY file's vertices are splats of the original layout."""
    vertex = header.element("vertex")
    return vertex is not None and {"opacity", "scale_0", "rot_0"} <= {*vertex.properties}


def is_compressed_ply(header: PlyHeader) -> bool:
    """Whether a PLY file's vertices are packed splats."""
    vertex = header.element("vertex")
    return vertex is not None and "packed_position" in vertex.properties


def read_splat_ply(path: Path, header: PlyHeader) -> Splats:
    """Splats of the original layout. Raises `ValueError` for columns that are missing, and what `read_elements` raises."""
    vertex = header.element("vertex")
    names = [] if vertex is None else list(vertex.properties)
    scales = [name for name in ("scale_0", "scale_1", "scale_2") if name in names]
    rest = sum(name.startswith("f_rest_") for name in names)
    constant = [f"f_dc_{channel}" for channel in range(3)]
    coloured = not {*constant} <= {*names}
    needed = [*_XYZ, *(_RGB if coloured else constant), *(f"rot_{part}" for part in range(4)), "opacity", "scale_1"]
    if missing := [name for name in [*needed, *(f"f_rest_{k}" for k in range(rest))] if name not in names]:
        raise ValueError(
            f"has splats without {', '.join(missing[:4])}; expected x, f_dc_0, opacity, scale_0, rot_0, ..."
        )
    check_coefficients(rest)
    table = read_elements(path, header, ["vertex"])["vertex"]
    notes = () if len(scales) == 3 else ("splats are disks, with two scales",)
    harmonics = _colours(table) if coloured else columns(table, constant)[:, None]
    if rest:
        harmonics = harmonics_from_channels(harmonics[:, 0], columns(table, [f"f_rest_{k}" for k in range(rest)]))
    deviations = exp(columns(table, scales))
    return make_splats(
        "Gaussian splats (.ply)",
        means=columns(table, _XYZ),
        scales=np.pad(deviations, ((0, 0), (0, 3 - len(scales)))),
        rotations=columns(table, [f"rot_{part}" for part in range(4)]),
        opacities=sigmoid(columns(table, ["opacity"])[:, 0]),
        harmonics=harmonics,
        # nerfstudio's exporter says so in a comment, other programs leave COLMAP's axes.
        up=UP_Z if "Vertical Axis: z" in header.comments else UP_Y_DOWN,
        notes=notes,
    )


def _colours(table: NDArray) -> NDArray:
    return harmonics_of_colours(unit_colours(table, _RGB))


def unit_colours(table: NDArray, names: tuple[str, ...]) -> NDArray:
    """Columns of colours ``(N, 3)`` in 0..1: integers are out of the highest value of their type, floats as they are."""
    values = columns(table, names)
    kind = table.dtype[names[0]]
    return values / np.iinfo(kind).max if kind.kind in "ui" else values


def read_compressed_ply(path: Path, header: PlyHeader) -> Splats:
    """Packed splats. Raises `ValueError` for tables that do not fit together, and what `read_elements` raises."""
    chunk, vertex, rest = (header.element(name) for name in ("chunk", "vertex", "sh"))
    if chunk is None or vertex is None or not {*_LIMITS} <= {*chunk.properties}:
        raise ValueError("has packed splats without the table chunk of their limits; expected min_x, max_x, ...")
    if any(vertex.properties.get(name) != "u4" for name in _PACKED):
        raise ValueError(f"has packed splats without {', '.join(_PACKED)}; expected four unsigned integers each")
    if chunk.count * _CHUNK < vertex.count or (rest is not None and rest.count != vertex.count):
        raise ValueError(
            f"has {vertex.count:,} splats, {chunk.count:,} chunks{f' and {rest.count:,} rows of sh' if rest else ''}; "
            f"expected a chunk for every {_CHUNK} splats and a row of sh for each"
        )
    number = 0 if rest is None else len(rest.properties)
    check_coefficients(number)
    tables = read_elements(path, header, ["chunk", "vertex", *(["sh"] if rest else [])])
    packed, limits, of_splat = tables["vertex"], tables["chunk"], np.arange(vertex.count) // _CHUNK

    def between(names: list[str], unit: NDArray) -> NDArray:
        low, high = columns(limits, names[0::2])[of_splat], columns(limits, names[1::2])[of_splat]
        return low + (high - low) * unit

    rgba = np.stack([packed["packed_color"] >> shift & 255 for shift in (24, 16, 8, 0)], axis=1) / np.float32(255)
    colours = rgba[:, :3]
    if {*_COLOUR_LIMITS} <= {*chunk.properties}:
        colours = between(_COLOUR_LIMITS, colours)
    harmonics = harmonics_of_colours(colours)
    if number:
        values = columns(tables["sh"], [f"f_rest_{k}" for k in range(number)]) * np.float32(8 / 255) - 4
        harmonics = harmonics_from_channels(harmonics[:, 0], values)
    return make_splats(
        "Gaussian splats (compressed .ply)",
        means=between(_LIMITS[:6], _unpack_three(packed["packed_position"])),
        scales=exp(between(_LIMITS[6:], _unpack_three(packed["packed_scale"]))),
        rotations=_unpack_rotation(packed["packed_rotation"]),
        opacities=rgba[:, 3],
        harmonics=harmonics,
    )


def _unpack_three(packed: NDArray) -> NDArray:
    """Three numbers ``(N, 3)`` in 0..1 of 11, 10 and 11 bits, from the top."""
    parts = (packed >> 21 & 2047, packed >> 11 & 1023, packed & 2047)
    return np.stack(parts, axis=1) / np.array([2047, 1023, 2047], np.float32)


def _unpack_rotation(packed: NDArray) -> NDArray:
    """Quaternions: 2 bits for the place of the largest component among w, x, y, z, 10 for each of the others, from the top."""
    others = np.stack([packed >> shift & 1023 for shift in (20, 10, 0)], axis=1) / np.float32(1023)
    return quaternions_from_three((others - 0.5) * np.float32(np.sqrt(2)), packed >> 30)
