"""Evaluation of encoders and language models on NeRFs: metrics, benchmark runs, retrieval, classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmn_encoder.lazy import lazy_names

if TYPE_CHECKING:
    from .retrieval import recall_at_k
    from .tables import Column, Table, published_table

_MODULES = {
    "recall_at_k": "retrieval",
    "Column": "tables",
    "Table": "tables",
    "published_table": "tables",
}

__all__ = ["Column", "Table", "published_table", "recall_at_k"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
