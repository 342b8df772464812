"""BLEU, ROUGE and METEOR of pairs of texts, as the published evaluator computes them.

Source: docs/released_format.md#metrics. Texts are split at white space, case is kept; one reference each. nltk and the package
`rouge` do the work. What is ours: a pair that occurs several times is scored once, the four BLEU orders share one count of
n-grams, METEOR remembers stems and synonyms, and inputs that the libraries refuse have a defined answer. All scores are in
0..100.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gmn_encoder.extras import require

from .wordnet import load_wordnet

BLEU_WEIGHTS = {
    "bleu-1": (1.0, 0.0, 0.0, 0.0),
    "bleu-2": (0.5, 0.5, 0.0, 0.0),
    "bleu-3": (0.33, 0.33, 0.33, 0.0),
    "bleu-4": (0.25, 0.25, 0.25, 0.25),
}
ROUGE_NAMES = ("rouge-1", "rouge-2", "rouge-l")
METEOR_NAME = "meteor"

_RECURSION_MARGIN = 1000

Step = Callable[[float], Any]
_Score = TypeVar("_Score")


def bleu_scores(
    predictions: Sequence[str], references: Sequence[str], *, on_pair: Step | None = None
) -> dict[str, list[float]]:
    """BLEU-1 to BLEU-4 of each pair: nltk's `sentence_bleu` with smoothing method 1. The weights of BLEU-3 sum to 0.99, as
    published. A prediction without words has 0."""
    bleu = require("nltk.translate.bleu_score", "eval")
    smoothing = bleu.SmoothingFunction().method1
    weights = list(BLEU_WEIGHTS.values())

    def score(prediction: str, reference: str) -> list[float]:
        return bleu.sentence_bleu([reference.split()], prediction.split(), weights, smoothing)

    values = _each_pair(score, predictions, references, on_pair)
    return {name: [100.0 * float(value[i]) for value in values] for i, name in enumerate(BLEU_WEIGHTS)}


def rouge_scores(
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    names: Sequence[str] = ROUGE_NAMES,
    on_pair: Step | None = None,
) -> dict[str, list[float]]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of each pair: the F value of the package `rouge`.

    The package raises where one side is empty or only full stops; such a pair has 0 here. It also finds the longest common
    subsequence by recursion, which Python's limit would end at about 500 words a side; the limit is raised while it works.
    """
    measure = require("rouge", "eval").Rouge(metrics=list(names))

    def score(prediction: str, reference: str) -> list[float]:
        if not prediction.strip(".") or not reference.strip("."):
            return [0.0] * len(names)
        with _recursion(prediction.count(" ") + reference.count(" ")):
            (found,) = measure.get_scores([prediction], [reference])
        return [found[name]["f"] for name in names]

    values = _each_pair(score, predictions, references, on_pair)
    return {name: [100.0 * float(value[i]) for value in values] for i, name in enumerate(names)}


def meteor_scores(
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    wordnet: Any = None,
    on_pair: Step | None = None,
) -> dict[str, list[float]]:
    """METEOR of each pair: nltk's `meteor_score` with the Porter stemmer and WordNet's synonyms.

    Args:
        wordnet: anything with nltk's `synsets`; None for WordNet itself.

    Raises:
        FileNotFoundError: WordNet is not installed; the message has the command that installs it.
    """
    meteor = require("nltk.translate.meteor_score", "eval").meteor_score
    wordnet = load_wordnet() if wordnet is None else wordnet
    stemmer = _stemmer()

    def score(prediction: str, reference: str) -> float:
        return meteor([reference.split()], prediction.split(), stemmer=stemmer, wordnet=wordnet)

    values = _each_pair(score, predictions, references, on_pair)
    return {METEOR_NAME: [100.0 * float(value) for value in values]}


def _each_pair(
    score: Callable[[str, str], _Score], predictions: Sequence[str], references: Sequence[str], on_pair: Step | None
) -> list[_Score]:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions came with {len(references)} references; expected one each")
    known: dict[tuple[str, str], _Score] = {}
    for pair in zip(predictions, references, strict=True):
        if pair not in known:
            known[pair] = score(*pair)
        if on_pair is not None:
            on_pair(1)
    return [known[pair] for pair in zip(predictions, references, strict=True)]


@contextmanager
def _recursion(depth: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    if depth + _RECURSION_MARGIN <= before:
        yield
        return
    sys.setrecursionlimit(depth + 2 * _RECURSION_MARGIN)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@functools.cache
def _stemmer() -> Any:
    """nltk's Porter stemmer, as METEOR takes it by default, with a memory."""
    porter = require("nltk.stem.porter", "eval").PorterStemmer()

    class CachedStemmer:
        stem = staticmethod(functools.lru_cache(maxsize=1 << 17)(porter.stem))

    return CachedStemmer()
