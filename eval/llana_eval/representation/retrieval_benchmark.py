"""The retrieval benchmark: every pair of families as queries and gallery, and the union of all (ALL/ALL).

Source: paper tables 6, 7, 17 and 18; docs/released_format.md#retrieval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, Literal

from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.progress import Progress, no_progress

from ..tables import Cell, Column, Table
from .retrieval import KS, check_ks, random_recall, rank_matches

UNION = "ALL"


@dataclass(frozen=True)
class RetrievalResult:
    """Recall of one pair of query and gallery families.

    Attributes:
        queries: the family of the queries, or `UNION`.
        gallery: the family that is searched, or `UNION`.
        num_queries: number of queries.
        gallery_size: number of embeddings that are searched.
        unmatched: number of queries whose object the gallery does not hold; they are misses.
        recall: k -> fraction.
    """

    queries: str
    gallery: str
    num_queries: int
    gallery_size: int
    unmatched: int
    recall: Mapping[int, float]

    @property
    def name(self) -> str:
        return f"{self.queries}/{self.gallery}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        random = {str(k): random_recall(k, self.gallery_size) for k in self.recall}
        return {**asdict(self), "recall": {str(k): value for k, value in self.recall.items()}, "random": random}


def retrieval_pairs(families: Mapping[str, EmbeddingSet]) -> list[tuple[str, str]]:
    """ALL/ALL and every ordered pair of two families. Raises `ValueError` where there are less than two."""
    if len(families) < 2:
        found = ", ".join(families) or "no family"
        raise ValueError(f"retrieval needs embeddings of the same objects in two families or more; got {found}")
    return [(UNION, UNION), *permutations(families, 2)]


def run_retrieval(
    families: Mapping[str, EmbeddingSet],
    *,
    ks: Sequence[int] = KS,
    denominator: Literal["queries", "gallery"] = "queries",
    progress: Progress = no_progress,
) -> list[RetrievalResult]:
    """Recall of every pair of families.

    Args:
        families: family -> embeddings; an object stands once in each.
        ks: the numbers of neighbours that count.
        denominator: divisor of the hits, see `recall_at_k`.
        progress: receives how many queries of all pairs were searched for.

    Raises:
        ValueError: less than two families; as `recall_at_k`, with the pair in front.
    """
    check_ks(ks)
    results = []
    pairs = retrieval_pairs(families)
    sizes = {UNION: sum(map(len, families.values())), **{name: len(each) for name, each in families.items()}}
    done, total = 0, sum(sizes[name] for name, _ in pairs)
    union = join_embeddings(families.values())
    for query_name, gallery_name in pairs:
        queries = union if query_name == UNION else families[query_name]
        gallery = union if gallery_name == UNION else families[gallery_name]
        try:
            ranks = rank_matches(
                queries.values,
                gallery.values,
                queries.object_ids,
                gallery.object_ids,
                progress=lambda what, count, _, before=done: progress(what, before + count, total),  # type: ignore[misc]
            )
        except ValueError as error:
            raise ValueError(f"{query_name}/{gallery_name}: {error}") from error
        done += len(queries)
        recall = {k: ranks.recall(k, denominator) for k in ks}
        unmatched = int((ranks.tied == 0).sum())
        results.append(RetrievalResult(query_name, gallery_name, len(queries), len(gallery), unmatched, recall))
    return results


def retrieval_table(
    results: Sequence[RetrievalResult], *, method: str = "this encoder", denominator: str = "queries"
) -> Table:
    """The results in the layout of the paper's table 17: recall in percent for each k, and what a shuffled gallery gives."""
    columns: list[str | Column] = ["Method", "k"]
    columns += [Column(result.name, digits=2, best="max") for result in results]
    rows: list[list[Cell]] = []
    for k in results[0].recall:
        rows.append(["RANDOM", k, *(100 * random_recall(k, result.gallery_size) for result in results)])
        rows.append([method, k, *(100 * result.recall[k] for result in results)])
    note = f"Recall@k in percent, query/gallery, hits over the number of {denominator}."
    if unmatched := [f"{result.unmatched} of {result.name}" for result in results if result.unmatched]:
        note += f" Queries without their object in the gallery count as misses: {', '.join(unmatched)}."
    return Table("NeRF retrieval", columns, rows, note=note, group_by="k")
