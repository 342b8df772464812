"""Evaluation of encoders and language models on NeRFs: metrics, benchmark runs, retrieval, classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmn_encoder.lazy import lazy_names

if TYPE_CHECKING:
    from .captioning.results import read_results
    from .captioning.scoring import compare_scores, score_captions, write_scores
    from .representation.retrieval import recall_at_k
    from .tables import Column, Table, published_table

_MODULES = {
    "recall_at_k": "representation.retrieval",
    "Column": "tables",
    "Table": "tables",
    "published_table": "tables",
    "compare_scores": "captioning.scoring",
    "read_results": "captioning.results",
    "score_captions": "captioning.scoring",
    "write_scores": "captioning.scoring",
}

__all__ = [
    "Column",
    "Table",
    "compare_scores",
    "published_table",
    "read_results",
    "recall_at_k",
    "score_captions",
    "write_scores",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
