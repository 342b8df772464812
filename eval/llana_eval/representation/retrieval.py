"""Instance-level retrieval: which embeddings of a gallery show the object of a query, in another architecture.

Source: paper section 4.3, tables 6, 7, 17, 18 and equation 5; docs/released_format.md#retrieval.

Shapes: Q queries, G gallery, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gmn_encoder.embeddings.neighbours import (
    CHUNK,
    TIE,
    blocks,
    check_widths,
    checked_rows,
    cosine_blocks,
    unit_rows,
)
from gmn_encoder.progress import Progress, no_progress

KS = (1, 5, 10)


@dataclass(frozen=True)
class Ranks:
    """Where the best match of each query stands among the gallery.

    Attributes:
        ahead: int64 ``(Q,)``, gallery items with a higher cosine than the best item of the query's object.
        tied: int64 ``(Q,)``, items of that cosine, the match included; 0 where the gallery has no item of the object.
        matches: int64 ``(Q,)``, items among the tied that show the object.
        gallery_size: the number of gallery items, G.
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
    progress: Progress = no_progress,
) -> dict[int, float]:
    """Fraction of queries that have an item of their object among their k nearest gallery items, by cosine.

    Ties are counted fairly: items of equal cosine (closer than 1e-12) stand in random order, and the recall is the expected one;
    an encoder that maps everything to one point scores as the random baseline. A query whose object is not in the gallery is a
    miss. Where queries and gallery are the same set and it holds objects several times, as the union of all families does
    (ALL/ALL), a query does not find itself.

    Args:
        queries: tensor or array ``(Q, D)`` of any floating dtype.
        gallery: tensor or array ``(G, D)``.
        query_ids: the object of each query, ``(class_id, nerf_id)`` or a string.
        gallery_ids: the object of each gallery item.
        ks: the numbers of neighbours that count.
        denominator: what hits are divided by: "queries", or "gallery" as in the released script; the same wherever both sets
            are of one size.
        chunk_size: the rows and columns of a block, which decide over memory alone.
        progress: receives how many queries were searched for.

    Returns:
        a fraction in 0..1 for each k.

    Raises:
        ValueError: empty sets, other widths or counts, NaN or infinite values, zero vectors, an object twice in a gallery that is
            not the set of queries, a k below 1.
    """
    check_ks(ks)
    if denominator not in ("queries", "gallery"):
        raise ValueError(f"denominator is {denominator!r}; expected 'queries' or 'gallery'")
    ranks = rank_matches(queries, gallery, query_ids, gallery_ids, chunk_size=chunk_size, progress=progress)
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
    progress: Progress = no_progress,
) -> Ranks:
    """Where the best match of every query stands; arguments and errors are those of `recall_at_k`."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected 1 or more")
    query_keys, item_keys = [_key(each) for each in query_ids], [_key(each) for each in gallery_ids]
    query = checked_rows(queries, "queries", [_name(key) for key in query_keys])
    items = checked_rows(gallery, "gallery", [_name(key) for key in item_keys])
    check_widths(query, items)
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
        for _, cosines in cosine_blocks(query, rows, items, chunk_size, itself=union):
            ahead[rows] += (cosines > high).sum(dim=1)
            tied[rows] += (cosines >= low).sum(dim=1)
        progress("searching", rows.stop, len(query))
    tied -= ahead
    none = best.isneginf()
    ahead[none], tied[none] = len(items), 0
    return Ranks(ahead, tied, matches, len(items))


def _key(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def _name(key: Hashable) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool((first == second.to(first.device)).all())


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
            (unit_rows(queries[a]) * unit_rows(gallery[b.to(gallery.device)]).to(queries.device)).sum(dim=1)
            for a, b in zip(left.split(chunk), right.split(chunk), strict=True)
        ]
    )
    best.scatter_reduce_(0, left, cosines, "amax")
    count.index_add_(0, left, (cosines >= best[left] - TIE).long())
    return best, count
