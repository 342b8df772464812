"""The record of a token sequence, and what is padded, masked and standardised in it.

Shapes: B NeRFs, C tokens, W values of a token, L layers that have a scale of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

POINT, NETWORK, POSE = 0, 1, 2
"""Kinds of tokens."""

KINDS = ("point", "network", "pose")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token sequences of B NeRFs of one architecture.

    Attributes:
        values: ``(B, C, W)``, standardised, zero where there is no value.
        mask: bool ``(C, W)``, where there is one.
        kinds: int64 ``(C,)``, see `KINDS`.
        numbers: int64 ``(C,)``, a token's number among those of its kind.
        layers: int64 ``(C,)``, the matrix that a network token is of; 0 for the others.
        places: ``(C, 3)`` in -1..1, where a point token belongs; zero for the others.
        means, deviations: ``(B, L)``, by which the values of each layer were standardised; L is 0 where none were.
    """

    values: Tensor
    mask: Tensor
    kinds: Tensor
    numbers: Tensor
    layers: Tensor
    places: Tensor
    means: Tensor
    deviations: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def with_values(self, values: Tensor) -> Tokens:
        return replace(self, values=values)

    def with_pose_tokens(self, count: int) -> Tokens:
        """With `count` tokens of zeros behind them, which a pose is written into."""
        extra = (0, 0, 0, count)
        return replace(
            self,
            values=F.pad(self.values, extra),
            mask=F.pad(self.mask, extra),
            kinds=F.pad(self.kinds, (0, count), value=POSE),
            numbers=torch.cat([self.numbers, torch.arange(count, device=self.numbers.device)]),
            layers=F.pad(self.layers, (0, count)),
            places=F.pad(self.places, extra),
        )


@dataclass(frozen=True)
class Part:
    """Some tokens of one kind, before they are joined.

    Attributes:
        values: ``(B, c, V)`` with any V up to the width of tokens.
        mask: bool ``(c, V)``.
        kind: of all of them.
        layer: of all of them.
        places: ``(c, 3)`` or None.
    """

    values: Tensor
    mask: Tensor
    kind: int
    layer: int = 0
    places: Tensor | None = None


def joined(parts: list[Part], width: int, *, means: Tensor, deviations: Tensor) -> Tokens:
    """Parts as one sequence with tokens of `width` values. Raises `ValueError` for values that do not fit."""
    for part in parts:
        if part.values.shape[-1] > width:
            raise ValueError(
                f"a {KINDS[part.kind]} token has {part.values.shape[-1]} values, the encoder's have {width}: fewer levels, "
                "features or channels, or an encoder of a larger token_dim"
            )
    values = torch.cat([F.pad(part.values, (0, width - part.values.shape[-1])) for part in parts], dim=1)
    mask = torch.cat([F.pad(part.mask, (0, width - part.mask.shape[-1])) for part in parts])
    device = values.device
    counts: dict[int, int] = {}
    kinds: list[int] = []
    numbers: list[int] = []
    layers: list[int] = []
    places: list[Tensor] = []
    for part in parts:
        count, first = part.values.shape[1], counts.get(part.kind, 0)
        counts[part.kind] = first + count
        kinds += [part.kind] * count
        numbers += range(first, first + count)
        layers += [part.layer] * count
        places.append(values.new_zeros(count, 3) if part.places is None else part.places.to(values))

    def index(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    return Tokens(
        values * mask, mask, index(kinds), index(numbers), index(layers), torch.cat(places), means, deviations
    )
