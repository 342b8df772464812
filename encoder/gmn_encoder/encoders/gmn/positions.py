"""Bounded positions: layers, indices and positions of a parameter graph as parts of the largest in its architecture.

The released encoder reads raw numbers, such as index 16,383 (docs/released_format.md#encoder), and was never taught what larger
ones are. Bounded, all lie in -1..1 whatever the sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...nerfs.blocks import Block, NodeGroup

_OCTAVES = 7  # of the frequencies that an encoder of bounded numbers starts with


@dataclass(frozen=True)
class NodeBounds:
    """The largest numbers of a graph's nodes.

    Attributes:
        layer: the last layer's number.
        indices: the largest index among the nodes of one layer and type.
    """

    layer: int
    indices: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, groups: Sequence[NodeGroup]) -> NodeBounds:
        """Those of some nodes."""
        indices: dict[tuple[int, int], int] = {}
        for group in groups:
            largest = 0 if group.first_index is None else group.first_index + group.count - 1
            key = (group.layer, int(group.type))
            indices[key] = max(indices.get(key, 0), largest)
        return cls(max(group.layer for group in groups), indices)

    def features(self, group: NodeGroup) -> Tensor:
        """`NodeGroup.features`, ``(count, 3)`` float32, with layers in 0..1 and indices in 0..1, or -1 where there is none."""
        layer, index, type = group.features().to(torch.float32).unbind(dim=1)
        bounded = index / max(self.indices[group.layer, int(group.type)], 1)
        return torch.stack([layer / max(self.layer, 1), torch.where(index < 0, index, bounded), type], dim=1)


def bounded_blocks(blocks: Sequence[Block]) -> Iterator[Block]:
    """The same blocks with layers in 0..1, positions in -1..1: each axis divided by the largest of the edge type, if above 1."""
    rows = torch.cat([block.attributes for block in blocks])
    last = rows[:, 0].max().clamp(min=1)
    for block in blocks:
        attributes = block.attributes.clone()
        attributes[:, 0] /= last
        for kind in attributes[:, 1].unique():
            attributes[attributes[:, 1] == kind, 2:] /= rows[rows[:, 1] == kind, 2:].abs().amax(dim=0).clamp(min=1)
        yield dataclasses.replace(block, attributes=attributes)


def frequency_gains(units: int) -> Tensor:
    """Factors ``(units,)`` on the first frequencies of what reads bounded numbers, from 1 to 64.

    Torch starts with frequencies up to 1, which suit raw numbers: in a range of 0..1 neighbours would look the same.
    """
    return torch.exp2(torch.arange(units) % _OCTAVES)
