"""Whether what a NeRF says are numbers: finite weights may still multiply to infinity, and infinities subtract to NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .record import Nerf

OnError = Callable[[int, ValueError], None]

_SIDE = 4


@torch.no_grad()
def check_field(nerf: Nerf) -> None:
    """Raise `ValueError`, with the NeRF's name, where its colour or density is NaN or infinite at one of 64 points in its box."""
    low, high = torch.tensor(nerf.architecture.box)
    steps = (torch.arange(_SIDE) + 0.5) / _SIDE
    points = low + torch.cartesian_prod(steps, steps, steps) * (high - low)
    rgb, density = nerf.query(points, torch.nn.functional.normalize(torch.ones_like(points), dim=-1))
    wrong = ~(rgb.isfinite().all(dim=-1) & density.isfinite().all(dim=-1))
    if bool(wrong.any()):
        raise ValueError(
            f"{nerf.name}: its field has NaN or infinite values at {int(wrong.sum())} of {len(points)} points "
            f"(its weights reach {_largest(nerf):.0e}); expected the weights of a NeRF"
        )


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
