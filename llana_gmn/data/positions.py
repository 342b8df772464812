"""Training objects in other positions: what is said of an object stays true when it is mirrored, turned a little or nearer.

A NeRF's weights cannot be moved, but an encoder that asks its field can ask elsewhere (`GmnEncoder.moved`), which is exact and
costs an embedding, where a moved mesh costs a fit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.seeds import derived_seed, generator_for

_TURN = math.radians(15)
_SCALE = 0.1
_SHIFT = 0.04


def position(number: int) -> tuple[Tensor, Tensor]:
    """Where the numbered position asks: ``linear x + offset``, ``(3, 3)`` and ``(3,)``; odd ones are mirrored.

    A turn about the vertical of at most 15 degrees, one scale for all axes within 10 %, and a shift within 0.04 world units:
    neither names and colours nor proportions change, nor does what stands or is symmetric.
    """
    drawn = torch.rand(5, generator=generator_for("position", number)) * 2 - 1
    turn = _TURN * float(drawn[0])
    linear = torch.eye(3)
    linear[:2, :2] = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear *= 1 + _SCALE * float(drawn[1])
    if number % 2:
        linear[:, 0] *= -1
    return linear, _SHIFT * drawn[2:]


def encoders_by_position(encoder: NerfEncoder, count: int) -> list[NerfEncoder]:
    """The encoder itself and, for each of `count` positions, one that embeds objects there.

    Raises `ValueError` for an encoder that reads weights alone, which cannot be moved.
    """
    if count and not getattr(encoder, "executes_fields", False):
        raise ValueError(
            f"positions: {count}: this encoder reads weights alone, which cannot be moved; "
            "set positions: 0, or name an encoder that asks the field"
        )
    moving: Any = encoder
    return [encoder, *(moving.moved(*position(number)) for number in range(1, count + 1))]


def position_of(family: str, nerf_id: str, count: int) -> int:
    """Which of 0 (as it is) to `count` a training NeRF is seen in: always the same one, whatever else is in the set."""
    return derived_seed("position of", family, nerf_id) % (count + 1)
