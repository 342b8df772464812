"""The hash family: a multi-resolution hash grid, then a ReLU network (Müller et al., with tiny-cuda-nn's conventions).

Sources: docs/released_format.md#nerf-weights, #hash-grid and #hash-graph. Beside the network a NeRF stores ``encoding.params``
``(sum of entries x F,)``: level by level, entry by entry, feature by feature.

Shapes: B NeRFs, S points, F features of an entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..architectures import register_family
from ..blocks import Block, GraphBuilder, GraphLayout, NodeType, WeightSlice, edge_attributes
from ..canonical import canonical_features
from ..fields import Activation, unit_coordinates
from ..interpolation import interpolate
from ..network import NetworkArchitecture

KEY = "encoding.params"
NODE_TYPE, EDGE_TYPE = 17, 14
"""Rows of the encoder's tables of node and edge types."""

# Where sizes are searched for; beyond these, `architecture=` must say them.
_MAX_LEVELS = 16
_LOG2_TABLE_SIZES = range(8, 25)

HASH_PRIMES = (1, 2654435761, 805459861)
_UINT32 = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class HashArchitecture(NetworkArchitecture):
    """Sizes of a hash NeRF."""

    family: ClassVar[str] = "hash"
    display_name: ClassVar[str] = "hash"
    activation: ClassVar[Activation] = "relu"
    encoding_keys: ClassVar[tuple[str, ...]] = (KEY,)
    fit_rates: ClassVar[Mapping[str, float]] = {"learning_rate": 5e-3, "encoding_rate": 2e-2}

    levels: int = 4
    log2_table_size: int = 12
    features_per_entry: int = 2
    base_resolution: int = 16
    max_resolution: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("levels", "log2_table_size", "features_per_entry", "base_resolution", "max_resolution")
        if self.max_resolution < self.base_resolution:
            raise ValueError(
                f"max_resolution of a hash architecture must be at least base_resolution, "
                f"got {self.max_resolution} below {self.base_resolution}"
            )
        self._require_bounded()

    @property
    def encoding_dim(self) -> int:
        return self.levels * self.features_per_entry

    @property
    def level_scales(self) -> tuple[float, ...]:
        """Grid scale of each level, computed in float32 as tiny-cuda-nn does (docs/released_format.md#hash-grid)."""
        if self.levels == 1:
            return (float(self.base_resolution - 1),)
        growth = np.float32(math.exp(math.log(self.max_resolution / self.base_resolution) / (self.levels - 1)))
        log2_growth = np.log2(growth, dtype=np.float32)
        levels = np.arange(self.levels, dtype=np.float32)
        scales = np.exp2(levels * log2_growth, dtype=np.float32) * np.float32(self.base_resolution) - np.float32(1)
        return tuple(float(scale) for scale in scales)

    @property
    def level_resolutions(self) -> tuple[int, ...]:
        """Vertices per axis of each level."""
        return tuple(math.ceil(scale) + 1 for scale in self.level_scales)

    @property
    def level_entries(self) -> tuple[int, ...]:
        """Entries stored for each level: the dense count rounded up to 8, capped by the table size."""
        return tuple(min(-(-(r**3) // 8) * 8, 2**self.log2_table_size) for r in self.level_resolutions)

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {**super().tensor_shapes, KEY: (sum(self.level_entries) * self.features_per_entry,)}

    @classmethod
    def encoding_sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
        found = []
        for levels in range(1, _MAX_LEVELS + 1):
            # Past the size at which every level is stored densely, a larger table changes nothing: the first one stands for all.
            sizes = {cls(levels=levels, log2_table_size=t).level_entries: t for t in reversed(_LOG2_TABLE_SIZES)}
            found += [
                {"levels": levels, "log2_table_size": t} for e, t in sizes.items() if (2 * sum(e),) == shapes[KEY]
            ]
        return found

    def point_features(self, tensors: Mapping[str, Tensor], xyz: Tensor) -> Tensor:
        u, _ = unit_coordinates(xyz, self.box)
        return hash_features(self, tensors[KEY], u)

    def training_features(self, tensors: Mapping[str, Tensor], u: Tensor, octaves: int) -> Tensor:
        return _training_features(self, tensors[KEY], u)

    def initial_tensor(self, key: str, generator: torch.Generator, frequencies: int | None) -> Tensor:
        """Tables U(-1e-4, 1e-4)."""
        if key == KEY:
            return (torch.rand(self.tensor_shapes[key], generator=generator) * 2 - 1) * 1e-4
        return super().initial_tensor(key, generator, frequencies)

    def canonical_encoding(
        self, tensors: Mapping[str, Tensor], columns: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Each level's features in canonical coordinates of their own."""
        tables = tensors[KEY].unflatten(1, (-1, self.features_per_entry)).split(self.level_entries, dim=1)
        read = columns.split(self.features_per_entry, dim=2)
        levels = [canonical_features(*level) for level in zip(tables, read, strict=True)]
        parts, found, shifts = zip(*levels, strict=True)
        return {KEY: torch.cat(parts, dim=1).flatten(1)}, torch.cat(found, dim=2), torch.stack(shifts).sum(dim=0)

    def add_blocks(self, builder: GraphBuilder, layout: GraphLayout) -> None:
        """Entry nodes to feature nodes level by level, then the network on the feature nodes (#hash-graph)."""
        features, sizes = self.features_per_entry, self.level_entries
        starts = [sum(sizes[:level]) for level in range(self.levels)]
        entries = [builder.nodes(n, 0, NODE_TYPE, first_index=start) for n, start in zip(sizes, starts, strict=True)]
        # The released builder hard-codes 16 feature nodes, which is the padded width of every network it met; those beyond the
        # levels' own stand for the padding with ones and have no incoming edge.
        outputs = tuple(builder.nodes(features, 0, NODE_TYPE) for _ in entries)
        padding = self.input_dim - self.encoding_dim
        sources = (*outputs, builder.nodes(padding, 0, NODE_TYPE)) if padding else outputs
        builder.nodes(self.input_dim, 0, NodeType.NEURON, first_index=0)  # orphans, without an edge (#hash-graph)
        for level, (group, targets) in enumerate(zip(entries, outputs, strict=True)):
            number = torch.arange(group.count * features)
            entry = number if layout == "released" else number // features  # the flat number, not the entry's
            positions = torch.stack([torch.full_like(entry, level), entry, torch.full_like(entry, -1)], dim=1)
            builder.blocks.append(
                Block(
                    sources=(group,),
                    targets=targets,
                    weights=WeightSlice(KEY, starts[level] * features, 1, features),
                    attributes=edge_attributes(0, EDGE_TYPE, positions),
                    attribute_index=number.view(group.count, features).T,
                    source_major=True,
                )
            )
        self.add_network(builder, sources, first_layer=0)


def hash_corner_indices(cell: Tensor, resolution: int, entries: int) -> Tensor:
    """Table index of grid corners (#hash-grid): dense while the grid fits, the spatial hash otherwise.

    Args:
        cell: integer corner coordinates ``(..., 3)``, int64, taken modulo 2^32.
        resolution: vertices per axis.
        entries: entries of the level.

    Returns:
        int64 ``(...)`` in ``0..entries - 1``.
    """
    cell = cell & _UINT32
    stride, index = 1, torch.zeros_like(cell[..., 0])
    for axis in range(3):
        if stride > entries:
            break
        index = (index + cell[..., axis] * stride) & _UINT32
        stride *= resolution
    if stride > entries:
        index = torch.zeros_like(index)
        for axis, prime in enumerate(HASH_PRIMES):
            index = index ^ ((cell[..., axis] * prime) & _UINT32)
    return index % entries


def hash_features(architecture: HashArchitecture, table: Tensor, u: Tensor) -> Tensor:
    """Trilinear reads of every level of the hash grid (#hash-grid).

    Args:
        architecture: sizes of the grid.
        table: ``(B, sum of entries * F)`` flat tables.
        u: ``(B, S, 3)`` in the unit cube.

    Returns:
        ``(B, S, levels * F)``, level by level.
    """
    features = architecture.features_per_entry
    sizes = architecture.level_entries
    tables = table.unflatten(-1, (-1, features)).split(sizes, dim=1)
    outputs = []
    for level, scale, resolution in zip(tables, architecture.level_scales, architecture.level_resolutions, strict=True):
        index, weights = _level_corners(u, scale, resolution, level.shape[1])
        values = level.gather(1, index.flatten(1)[..., None].expand(-1, -1, features)).unflatten(1, index.shape[1:])
        outputs.append((weights[..., None] * values).sum(dim=2))
    return torch.cat(outputs, dim=-1)


def corner_rows(architecture: HashArchitecture, u: Tensor) -> tuple[Tensor, Tensor]:
    """Where `hash_features` reads: the rows of the whole table, all levels one after the other, and their weights.

    Args:
        architecture: sizes of the grid.
        u: ``(..., 3)`` in the unit cube.

    Returns:
        rows int64 and weights, each ``(..., levels, 8)``; the corners of a cell with the x coordinate running fastest.
    """
    rows, weights, start = [], [], 0
    levels = zip(architecture.level_scales, architecture.level_resolutions, architecture.level_entries, strict=True)
    for scale, resolution, entries in levels:
        index, weight = _level_corners(u, scale, resolution, entries)
        rows.append(index + start)
        weights.append(weight)
        start += entries
    return torch.stack(rows, dim=-2), torch.stack(weights, dim=-2)


def _level_corners(u: Tensor, scale: float, resolution: int, entries: int) -> tuple[Tensor, Tensor]:
    """Rows of a level's own table, and weights, ``(..., 8)`` of the corners around points ``(..., 3)`` of the unit cube."""
    corners = torch.tensor([[c >> d & 1 for d in range(3)] for c in range(8)], device=u.device)
    position = u * scale + 0.5
    floor = position.detach().floor()
    fraction = (position - floor)[..., None, :]
    cells = floor.to(torch.int64)[..., None, :] + corners
    weights = torch.where(corners.bool(), fraction, 1 - fraction).prod(dim=-1)
    return hash_corner_indices(cells, resolution, entries), weights


def _training_features(architecture: HashArchitecture, table: Tensor, u: Tensor) -> Tensor:
    """`hash_features`, with what the corners of a cell share computed once."""
    features, sizes = architecture.features_per_entry, architecture.level_entries
    coordinates = u.permute(2, 0, 1).contiguous()  # (3, B, S)
    offset = torch.arange(len(table), device=u.device, dtype=torch.int32)[:, None] * sum(sizes)
    tables, outputs = table.reshape(-1, features), []
    for entries, scale, resolution in zip(
        sizes, architecture.level_scales, architecture.level_resolutions, strict=True
    ):
        position = coordinates * scale + 0.5
        low = position.floor()
        fraction = position - low
        x, y, z = torch.stack([1 - fraction, fraction], dim=1)  # (2, B, S) each
        weights = (z[:, None] * y)[:, :, None] * x
        index = _corners(low.to(torch.int32), resolution, entries) + offset
        outputs.append(interpolate(tables, index.flatten(1), weights.flatten(0, 2).flatten(1)))
        offset = offset + entries
    return torch.stack(outputs, dim=1).view(*u.shape[:2], -1)


def _corners(cell: Tensor, resolution: int, entries: int) -> Tensor:
    """`hash_corner_indices` of the 8 corners ``(8, B, S)`` of int32 cells ``(3, B, S)``, the x coordinate running fastest."""
    stride, factors = 1, [0, 0, 0]
    for axis in range(3):
        if stride > entries:
            break
        factors[axis] = stride
        stride *= resolution
    hashed = stride > entries
    if entries & (entries - 1) or entries > 1 << 16:  # what follows needs a power of two, and products within 32 bits
        steps = torch.tensor([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], device=cell.device)
        corners = cell.to(torch.int64).permute(1, 2, 0) + steps[:, None, None]
        return hash_corner_indices(corners, resolution, entries).to(torch.int32)
    if hashed:  # only the lowest bits of the products count
        factors = [factor % entries for factor in HASH_PRIMES]
    x, y, z = (torch.stack([cell[axis], cell[axis] + 1]) * factors[axis] for axis in range(3))
    if hashed:
        index = (z[:, None] ^ y)[:, :, None] ^ x
    else:
        index = (z[:, None] + y)[:, :, None] + x
    return (index & (entries - 1)).flatten(0, 2)


register_family(
    HashArchitecture,
    "HASH",
    paper={
        "HASH": HashArchitecture(),
        "HASH-2L": HashArchitecture(hidden_layers=2),
        "HASH-32H": HashArchitecture(hidden_dim=32),
        "HASH-3N": HashArchitecture(levels=3),
        "HASH-11T": HashArchitecture(log2_table_size=11),
    },
    nano=HashArchitecture(
        hidden_layers=2, hidden_dim=24, levels=3, log2_table_size=9, base_resolution=8, max_resolution=32
    ),
)
