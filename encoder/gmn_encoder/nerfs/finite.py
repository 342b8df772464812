"""Whether what a NeRF says are numbers: finite weights may still multiply to infinity, and infinities subtract to NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .probing import FieldError, visible_field, whole_field
from .record import Nerf, NerfBatch

OnError = Callable[[int, ValueError], None]

_SIDE, _FINE_SIDE = 4, 16


def check_field(nerf: Nerf) -> None:
    """Raise `ValueError`, with the NeRF's name, where its colour or density is NaN or infinite at one of 64 points in its box."""
    try:
        visible_field(NerfBatch.stack([nerf]), box_points(nerf, _SIDE))
    except FieldError as error:
        raise ValueError(f"{nerf.name}: {error.problem} (its weights reach {_largest(nerf):.0e})") from error


def field_flag(nerf: Nerf) -> str | None:
    """What is unusual about what a NeRF shows: "empty", "full", or None where there is something to see in it.

    Asked at 4,096 points, so that what is thinner than a sixteenth of the box may be missed. Raises what `check_field` raises.
    """
    check_field(nerf)
    return whole_field(visible_field(NerfBatch.stack([nerf]), box_points(nerf, _FINE_SIDE)))[0]


def nothing_to_see(name: str, flag: str) -> str:
    """The sentence that refuses a NeRF whose field is "empty" or "full" where only an object will do."""
    return f"{name}: there is nothing to see in it, its field is {flag}; expected the NeRF of an object"


def box_points(nerf: Nerf, side: int) -> Tensor:
    """The centres of `side` cells along each axis of the architecture's box, float32 ``(side ** 3, 3)``."""
    low, high = torch.tensor(nerf.architecture.box)
    steps = (torch.arange(side) + 0.5) / side
    return low + torch.cartesian_prod(steps, steps, steps) * (high - low)


def check_embeddings(nerfs: Sequence[Nerf], embeddings: Tensor, on_error: OnError | None = None) -> None:
    """Tell the NeRFs whose embedding ``(n, D)``, or tokens ``(n, N, D)``, have NaN or infinite values.

    Args:
        nerfs: the NeRFs.
        embeddings: their embeddings.
        on_error: receives the place and the error of each; None to raise the first, a `ValueError` with its name.
    """
    for place in (~embeddings.isfinite().flatten(1).all(dim=-1)).nonzero()[:, 0].tolist():
        error = ValueError(
            f"{nerfs[place].name}: its embedding has NaN or infinite values (its weights reach {_largest(nerfs[place]):.0e}); "
            "expected the weights of a NeRF"
        )
        if on_error is None:
            raise error
        on_error(place, error)


def encode_each(
    encode: Callable[[Sequence[Nerf], OnError], Tensor], nerfs: Sequence[Nerf]
) -> list[Tensor | ValueError]:
    """The embedding of each NeRF, or why it has none: one that an encoder refuses leaves the others as they are.

    Args:
        encode: makes embeddings ``(n, ...)`` of n NeRFs, and tells the errors of `check_embeddings`; `ValueError` is of them all.
        nerfs: the NeRFs.
    """
    if not nerfs:
        return []
    useless: dict[int, ValueError] = {}
    try:
        made = encode(nerfs, useless.__setitem__)
    except ValueError as error:
        return [error] if len(nerfs) == 1 else [one for each in nerfs for one in encode_each(encode, [each])]
    return [useless.get(row, embedding) for row, embedding in enumerate(made)]


def _largest(nerf: Nerf) -> float:
    return max(float(tensor.abs().max()) for tensor in nerf.tensors.values() if tensor.numel())
