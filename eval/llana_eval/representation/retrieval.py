"""Instance-level retrieval: which embeddings of a gallery show the object of a query, in another architecture.

Source: paper section 4.3, tables 6, 7, 17, 18 and equation 5; FORMATS.md section 8. The search is exact, by cosine, in float64,
in blocks: memory does not grow with the number of pairs, and no result depends on the size of a block.

Shapes: Q queries, G gallery, D embedding, R pairs of a query and a gallery item of the same object, q x g a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

KS = (1, 5, 10)
TIE = 1e-12  # cosines closer than this are equal: rounding of a float64 product of unit vectors stays below
CHUNK = 2048  # rows and columns of a block: 32 MiB of cosines


@dataclass(frozen=True)
class Ranks:
    """Where the best match of each query stands among the gallery.

    Attributes:
        ahead: int64 ``(Q,)``, gallery items with a higher cosine than the best item of the query's object.
        tied: int64 ``(Q,)``, items of that cosine, the match included; 0 where the gallery has no item of the object.
        matches: int64 ``(Q,)``, items among the tied that show the object.
        gallery_size: G.
    """

    ahead: Tensor
    tied: Tensor
    matches: Tensor
    gallery_size: int

    def hits(self, k: int) -> Tensor:
        """float64 ``(Q,)``: the probability that one of the k nearest shows the object, with ties in random order.

        Of t tied items, m of which match, j = k - ahead are among the k nearest: 1 - C(t - m, j) / C(t, j).
        """
        drawn = (k - self.ahead).clamp(min=0).minimum(self.tied)
        if int(self.tied.max() if len(self.tied) else 0) <= 1:
            return (drawn > 0).double()

        def log_choose(n: Tensor, r: Tensor) -> Tensor:
            n, r = n.double(), r.double()
            return torch.lgamma(n + 1) - torch.lgamma(r + 1) - torch.lgamma(n - r + 1)

        others = self.tied - self.matches
        possible = drawn <= others  # else some match must be among the drawn
        misses = (log_choose(others, drawn.minimum(others)) - log_choose(self.tied, drawn)).exp()
        misses = torch.where(self.matches == 1, 1 - drawn.double() / self.tied.clamp(min=1), misses)
        hits = torch.where(possible, 1 - misses, 1.0)
        return torch.where(drawn > 0, hits, 0.0)

    def recall(self, k: int, denominator: Literal["queries", "gallery"] = "queries") -> float:
        """The fraction of queries, or for "gallery" the hits over the number of gallery items as in the released script."""
        if denominator not in ("queries", "gallery"):
            raise ValueError(f"denominator is {denominator!r}; expected 'queries' or 'gallery'")
        return float(self.hits(k).sum()) / (len(self.ahead) if denominator == "queries" else self.gallery_size)


def recall_at_k(
    queries: Any,
    gallery: Any,
    query_ids: Sequence[Hashable],
    gallery_ids: Sequence[Hashable],
    ks: Sequence[int] = KS,
    denominator: Literal["queries", "gallery"] = "queries",
    *,
    chunk_size: int = CHUNK,
    on_chunk: Callable[[int], Any] = lambda count: None,
) -> dict[int, float]:
    """Fraction of queries that have an item of their object among their k nearest gallery items, by cosine.

    Ties are counted fairly: items of equal cosine (closer than 1e-12) stand in random order, and the recall is the expected one;
    an encoder that maps everything to one point scores as the random baseline. A query whose object is not in the gallery is a
    miss. Where queries and gallery are the same set and it holds objects several times, as the union of all families does
    (ALL/ALL), a query does not find itself.

    Args:
        queries: ``(Q, D)`` tensor or array of any floating dtype.
        gallery: ``(G, D)``.
        query_ids: Q of them, ``(class_id, nerf_id)`` or strings.
        gallery_ids: G of them.
        ks: how many neighbours count.
        denominator: "queries", or "gallery" as in the released script; the same wherever both sets are of one size.
        chunk_size: rows and columns of a block, which decides over memory alone.
        on_chunk: hears how many queries each block of rows dealt with.

    Returns:
        a fraction in 0..1 for each k.

    Raises:
        ValueError: empty sets, other widths or counts, NaN or infinite values, zero vectors, an object twice in a gallery that is
            not the set of queries, a k below 1.
    """
    check_ks(ks)
    if denominator not in ("queries", "gallery"):
        raise ValueError(f"denominator is {denominator!r}; expected 'queries' or 'gallery'")
    ranks = rank_matches(queries, gallery, query_ids, gallery_ids, chunk_size=chunk_size, on_chunk=on_chunk)
    return {k: ranks.recall(k, denominator) for k in ks}


def check_ks(ks: Sequence[int]) -> None:
    if not len(ks) or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in ks):
        raise ValueError(f"ks are {list(ks)}; expected whole numbers of neighbours, 1 or more")


def random_recall(k: int, gallery_size: int) -> float:
    """What a shuffled gallery gives, k / G (equation 5), at most 1."""
    return min(1.0, k / gallery_size)


def rank_matches(
    queries: Any,
    gallery: Any,
    query_ids: Sequence[Hashable],
    gallery_ids: Sequence[Hashable],
    *,
    chunk_size: int = CHUNK,
    on_chunk: Callable[[int], Any] = lambda count: None,
) -> Ranks:
    """Where the best match of every query stands; arguments and errors as of `recall_at_k`."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected 1 or more")
    query, query_keys = checked(queries, query_ids, "queries")
    items, item_keys = checked(gallery, gallery_ids, "gallery")
    if query.shape[1] != items.shape[1]:
        raise ValueError(
            f"queries are {query.shape[1]} wide and the gallery {items.shape[1]}; expected embeddings of one encoder"
        )
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(item_keys):
        places.setdefault(key, []).append(place)
    repeated = next((key for key, found in places.items() if len(found) > 1), None)
    union = repeated is not None and query_keys == item_keys and _equal(query, items)
    if repeated is not None and not union:
        raise ValueError(
            f"object {_name(repeated)} stands {len(places[repeated])} times in the gallery; expected every object once "
            "(ids are class and NeRF together), or the same set as queries and gallery"
        )
    best, matches = _best_matches(query, items, query_keys, places, union=union, chunk=chunk_size)
    ahead, tied = torch.zeros(2, len(query), dtype=torch.int64, device=query.device)
    for rows in blocks(len(query), chunk_size):
        high, low = (best[rows] + TIE)[:, None], (best[rows] - TIE)[:, None]
        for _, cosines in _cosines(query, rows, items, chunk_size, itself=union):
            ahead[rows] += (cosines > high).sum(dim=1)
            tied[rows] += (cosines >= low).sum(dim=1)
        on_chunk(rows.stop - rows.start)
    tied -= ahead
    none = best.isneginf()
    ahead[none], tied[none] = len(items), 0
    return Ranks(ahead, tied, matches, len(items))


def nearest(
    queries: Any, gallery: Any, k: int, *, exclude: Sequence[int] | None = None, chunk_size: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """The k nearest gallery items of each query by cosine, nearest first, equal ones in the order of the gallery.

    Args:
        queries: ``(Q, D)``.
        gallery: ``(G, D)``.
        k: how many; all of them where the gallery has fewer.
        exclude: for each query the place of a gallery item that must not be found (itself), or -1.
        chunk_size: rows and columns of a block.

    Returns:
        cosines float64 and places int64, both ``(Q, min(k, G))``.

    Raises:
        ValueError: as `recall_at_k`.
    """
    check_ks([k])
    query, _ = checked(queries, range(len(queries)), "queries")
    items, _ = checked(gallery, range(len(gallery)), "gallery")
    if query.shape[1] != items.shape[1]:
        raise ValueError(f"queries are {query.shape[1]} wide and the gallery {items.shape[1]}; expected one width")
    found_cosines, found_places = [], []
    banned = torch.full((len(query),), -1) if exclude is None else torch.as_tensor(list(exclude))
    for rows in blocks(len(query), chunk_size):
        best = torch.empty(rows.stop - rows.start, 0, dtype=torch.float64, device=query.device)
        places = torch.empty(rows.stop - rows.start, 0, dtype=torch.int64, device=query.device)
        for columns, cosines in _cosines(query, rows, items, chunk_size, itself=False):
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


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` rows, `size` at a time."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def checked(embeddings: Any, ids: Sequence[Hashable], what: str) -> tuple[Tensor, list[Hashable]]:
    """Embeddings as a tensor, ids as keys; raises `ValueError` for what no cosine can be taken of."""
    tensor = torch.as_tensor(embeddings).detach()
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise ValueError(
            f"{what} have shape {list(tensor.shape)} and dtype {tensor.dtype}; expected floating-point embeddings (n, D)"
        )
    if tensor.shape[0] == 0 or tensor.shape[1] == 0:
        raise ValueError(f"{what} are empty, shape {list(tensor.shape)}; expected at least one embedding")
    if len(ids) != len(tensor):
        raise ValueError(f"{what} have {len(tensor)} embeddings and {len(ids)} ids; expected one id each")
    largest = torch.cat([tensor[rows].abs().amax(dim=1) for rows in blocks(len(tensor), CHUNK)])
    if not bool(largest.isfinite().all()):
        row = int(largest.isfinite().logical_not().nonzero()[0])
        raise ValueError(f"row {row} of the {what} ({_name(ids[row])}) is not finite; expected numbers without NaN")
    if not bool((largest > 0).all()):
        row = int((largest == 0).nonzero()[0])
        raise ValueError(
            f"row {row} of the {what} ({_name(ids[row])}) is all zeros, which has no direction; embed it again"
        )
    return tensor, [_key(each) for each in ids]


def _key(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def _name(value: Any) -> str:
    key = _key(value)
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _unit(embeddings: Tensor) -> Tensor:
    """Rows of length one in float64, also of rows whose squares leave the range of numbers."""
    rows = embeddings.double()
    rows = rows / rows.abs().amax(dim=1, keepdim=True)
    return rows.div_(rows.norm(dim=1, keepdim=True))


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool((first == second.to(first.device)).all())


def _cosines(
    queries: Tensor, rows: slice, gallery: Tensor, chunk: int, *, itself: bool
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks ``(q, g)`` of cosines of some queries with all of the gallery; their own places are minus infinity if `itself`."""
    unit = _unit(queries[rows])
    for columns in blocks(len(gallery), chunk):
        cosines = unit @ _unit(gallery[columns].to(unit.device)).T
        first, last = max(rows.start, columns.start), min(rows.stop, columns.stop)
        if itself and first < last:
            own = torch.arange(first, last, device=unit.device)
            cosines[own - rows.start, own - columns.start] = -math.inf
        yield columns, cosines


def _best_matches(
    queries: Tensor,
    gallery: Tensor,
    query_keys: Sequence[Hashable],
    places: dict[Hashable, list[int]],
    *,
    union: bool,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """The highest cosine of each query with an item of its object (minus infinity: none), and how many items have it."""
    pairs = [
        (i, place) for i, key in enumerate(query_keys) for place in places.get(key, ()) if not (union and i == place)
    ]
    best = torch.full((len(queries),), -math.inf, dtype=torch.float64, device=queries.device)
    count = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    if not pairs:
        return best, count
    left, right = torch.tensor(pairs, device=queries.device).T
    cosines = torch.cat(
        [
            (_unit(queries[left[part]]) * _unit(gallery[right[part].to(gallery.device)]).to(queries.device)).sum(dim=1)
            for part in blocks(len(pairs), chunk)
        ]
    )
    best.scatter_reduce_(0, left, cosines, "amax")
    count.index_add_(0, left, (cosines >= best[left] - TIE).long())
    return best, count
