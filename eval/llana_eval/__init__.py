"""Evaluation of encoders and language models on NeRFs: metrics, benchmark runs, retrieval, classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmn_encoder.lazy import lazy_names

if TYPE_CHECKING:
    from .results import read_results
    from .scoring import compare_scores, score_captions, write_scores

_MODULES = {
    "compare_scores": "scoring",
    "read_results": "results",
    "score_captions": "scoring",
    "write_scores": "scoring",
}

__all__ = ["compare_scores", "read_results", "score_captions", "write_scores"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
