"""Nearest neighbours by cosine: exact, in float64, in blocks.

Memory does not grow with the number of pairs, and no result depends on the size of a block.

Shapes: Q queries, G gallery, D embedding, q x g a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

TIE = 1e-12  # cosines closer than this are equal: rounding of a float64 product of unit vectors stays below
CHUNK = 2048  # rows and columns of a block: 32 MiB of cosines


def nearest(
    queries: Any, gallery: Any, k: int, *, exclude: Sequence[int] | None = None, chunk_size: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """The k nearest gallery items of each query by cosine, nearest first, equal ones in the order of the gallery.

    Args:
        queries: tensor or array ``(Q, D)`` of any floating dtype.
        gallery: tensor or array ``(G, D)``.
        k: number of items; all of them where the gallery has fewer.
        exclude: place of a gallery item that each query must not find (itself), or -1.
        chunk_size: the rows and columns of a block, which decide over memory alone.

    Returns:
        cosines float64 and places int64, both ``(Q, min(k, G))``. An excluded item's cosine is minus infinity.

    Raises:
        ValueError: empty sets, other widths, NaN or infinite values, zero vectors, a k below 1.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k is {k!r}; expected a whole number of neighbours, 1 or more")
    query, items = checked_rows(queries, "queries"), checked_rows(gallery, "gallery")
    check_widths(query, items)
    banned = torch.full((len(query),), -1) if exclude is None else torch.as_tensor(list(exclude))
    found_cosines, found_places = [], []
    for rows in blocks(len(query), chunk_size):
        best = torch.empty(rows.stop - rows.start, 0, dtype=torch.float64, device=query.device)
        places = torch.empty(rows.stop - rows.start, 0, dtype=torch.int64, device=query.device)
        for columns, cosines in cosine_blocks(query, rows, items, chunk_size):
            numbers = torch.arange(columns.start, columns.stop, device=query.device)
            cosines.masked_fill_(numbers[None] == banned[rows, None].to(query.device), -math.inf)
            values = torch.cat([best, cosines], dim=1)
            # Cosines that differ by rounding alone are equal, and equal ones keep the order of the gallery.
            order = (values / TIE).round().sort(dim=1, descending=True, stable=True).indices[:, :k]
            best = values.gather(1, order)
            places = torch.cat([places, numbers.expand(len(values), -1)], dim=1).gather(1, order)
        found_cosines.append(best)
        found_places.append(places)
    return torch.cat(found_cosines), torch.cat(found_places)


def check_widths(queries: Tensor, gallery: Tensor) -> None:
    """Raises `ValueError` where queries ``(Q, D)`` and gallery ``(G, D)`` are not of one width."""
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries are {queries.shape[1]} wide and the gallery {gallery.shape[1]}; expected embeddings of one encoder"
        )


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` rows, `size` at a time."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def checked_rows(embeddings: Any, what: str, names: Sequence[str] | None = None) -> Tensor:
    """Embeddings as a tensor ``(n, D)``. Raises `ValueError` for what no cosine can be taken of; `names` are the rows'."""
    tensor = torch.as_tensor(embeddings).detach()
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise ValueError(
            f"{what} have shape {list(tensor.shape)} and dtype {tensor.dtype}; expected floating-point embeddings (n, D)"
        )
    if tensor.shape[0] == 0 or tensor.shape[1] == 0:
        raise ValueError(f"{what} are empty, shape {list(tensor.shape)}; expected at least one embedding")
    if names is not None and len(names) != len(tensor):
        raise ValueError(f"{what} have {len(tensor)} embeddings and {len(names)} ids; expected one id each")
    largest = torch.cat([tensor[rows].abs().amax(dim=1) for rows in blocks(len(tensor), CHUNK)])
    for wrong, reason in (
        (largest.isfinite().logical_not(), "is not finite; expected numbers without NaN"),
        (largest == 0, "is all zeros, which has no direction; embed it again"),
    ):
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise ValueError(f"row {row} of the {what}{'' if names is None else f' ({names[row]})'} {reason}")
    return tensor


def unit_rows(embeddings: Tensor) -> Tensor:
    """Rows of length one in float64, also of rows whose squares leave the range of numbers."""
    rows = embeddings.double()
    rows = rows / rows.abs().amax(dim=1, keepdim=True)
    return rows.div_(rows.norm(dim=1, keepdim=True))


def cosine_blocks(
    queries: Tensor, rows: slice, gallery: Tensor, chunk: int, *, itself: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks ``(q, g)`` of cosines of some queries with all of the gallery; their own places are minus infinity if `itself`."""
    unit = unit_rows(queries[rows])
    for columns in blocks(len(gallery), chunk):
        cosines = unit @ unit_rows(gallery[columns].to(unit.device)).T
        first, last = max(rows.start, columns.start), min(rows.stop, columns.stop)
        if itself and first < last:
            own = torch.arange(first, last, device=unit.device)
            cosines[own - rows.start, own - columns.start] = -math.inf
        yield columns, cosines
