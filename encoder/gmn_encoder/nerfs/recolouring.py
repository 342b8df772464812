"""Other colours for a NeRF without another fit: channels exchanged and inverted in its last matrix.

The colour of the families of the paper is the sigmoid of three rows of the network's last matrix
(docs/released_format.md#network). Exchanging rows exchanges channels; as ``sigmoid(-x) = 1 - sigmoid(x)``, a negated row is an
inverted channel: 6 orders times 8 choices of inverted channels, 48 recolourings, the first of which changes nothing. Geometry
and density stay as they are. The light that fell on the object is recoloured with it: inverted, its shadows are its bright parts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .network import BIAS_KEY, MLP_KEY, OUTPUT_ROWS, NetworkArchitecture
from .record import Nerf

CHANNELS = 3
COUNT = 48

Colours = TypeVar("Colours", Tensor, NDArray[np.floating])

_ORDERS = tuple(itertools.permutations(range(CHANNELS)))
_INVERTED = tuple(itertools.product((False, True), repeat=CHANNELS))


@dataclass(frozen=True)
class Recolouring:
    """One of the 48 exact recolourings.

    Attributes:
        order: for each new channel the old one that it shows; (2, 1, 0) exchanges red and blue.
        inverted: for each new channel whether it shows one minus that.

    Raises:
        ValueError: an order that is no permutation of 0, 1, 2, or not three choices.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    inverted: tuple[bool, bool, bool] = (False, False, False)

    def __post_init__(self) -> None:
        if sorted(self.order) != [0, 1, 2] or len(self.inverted) != CHANNELS:
            raise ValueError(
                f"order is {self.order} and inverted {self.inverted}; expected a permutation of 0, 1, 2 and three choices"
            )

    @classmethod
    def numbered(cls, number: int) -> Recolouring:
        """Recolouring 0 to 47; 0 changes nothing. Raises `ValueError` for another number."""
        if not 0 <= number < COUNT:
            raise ValueError(f"recolouring {number} does not exist; expected 0 to {COUNT - 1}")
        order, inverted = _ORDERS[number // len(_INVERTED)], _INVERTED[number % len(_INVERTED)]
        return cls((order[0], order[1], order[2]), (inverted[0], inverted[1], inverted[2]))

    @property
    def number(self) -> int:
        return _ORDERS.index(self.order) * len(_INVERTED) + _INVERTED.index(self.inverted)

    def colours(self, rgb: Colours) -> Colours:
        """Recoloured colours ``(..., 3)`` in 0..1."""
        shown = rgb[..., list(self.order)]
        for channel, inverted in enumerate(self.inverted):
            if inverted:
                shown[..., channel] = 1 - shown[..., channel]
        return shown


def recolour(nerf: Nerf, recolouring: Recolouring) -> Nerf:
    """The NeRF in other colours: `Nerf.query` gives ``recolouring.colours`` of its colours, and the same density.

    Exact but for the rounding of the sigmoid. Raises `ValueError` for a family whose colour is not the sigmoid of the last
    matrix's first rows; such an object is recoloured before it is fitted.
    """
    architecture = nerf.architecture
    if not isinstance(architecture, NetworkArchitecture) or not _has_plain_colour(type(architecture)):
        raise ValueError(
            f"{nerf.name}: the colour of {architecture.family} NeRFs is not the sigmoid of their last matrix; "
            "recolour what it is fitted to instead"
        )
    tensors = dict(nerf.tensors)
    width = architecture.hidden_dim
    matrix = tensors[MLP_KEY][-OUTPUT_ROWS * width :].view(OUTPUT_ROWS, width)
    tensors[MLP_KEY] = tensors[MLP_KEY].clone()
    tensors[MLP_KEY][-OUTPUT_ROWS * width :][: CHANNELS * width] = _rows(matrix, recolouring).flatten()
    if architecture.bias:
        bias = tensors[BIAS_KEY]
        tensors[BIAS_KEY] = bias.clone()
        tensors[BIAS_KEY][-OUTPUT_ROWS:][:CHANNELS] = _rows(bias[-OUTPUT_ROWS:], recolouring)
    return Nerf(architecture, tensors)


def _rows(rows: Tensor, recolouring: Recolouring) -> Tensor:
    signs = rows.new_tensor([-1.0 if inverted else 1.0 for inverted in recolouring.inverted])
    return rows[list(recolouring.order)] * signs.view(-1, *[1] * (rows.ndim - 1))


def _has_plain_colour(family: type) -> bool:
    return all(getattr(family, name) is getattr(NetworkArchitecture, name) for name in ("query", "_colour_and_density"))
