"""How sure a mean is: bootstrap confidence intervals, and the paired comparison of two systems on the same records.

Efron's percentile bootstrap over records; all metrics of a call share the same resamples.
Shapes: n records, K metrics, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BootstrapSettings:
    """Attributes:
    resamples: number of resamples, R.
    confidence: coverage of the intervals, in (0, 1).
    seed: seed of the resamples.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples!r}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence!r}")


@dataclass(frozen=True)
class Difference:
    """How much better the first of two systems is in a metric.

    Attributes:
        first, second: means of the two systems.
        difference: first - second.
        interval: confidence interval of the difference.
        p_value: two-sided p-value of no difference: twice the share of resamples on the rarer side of 0, the observed one
            counted in.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float


def confidence_intervals(
    scores: Mapping[str, Sequence[float]], settings: BootstrapSettings | None = None
) -> dict[str, tuple[float, float]]:
    """The percentile interval of each metric's mean. Every metric has the same n records, at least one."""
    settings = settings or BootstrapSettings()
    means = _resampled_means(_matrix(scores), settings)
    return {name: _interval(means[:, k], settings) for k, name in enumerate(scores)}


def paired_differences(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    settings: BootstrapSettings | None = None,
) -> dict[str, Difference]:
    """Compare two systems' scores of the same records, record i with record i, in the metrics that both have.

    Raises `ValueError` where the numbers of records differ or no metric is common.
    """
    settings = settings or BootstrapSettings()
    names = [name for name in first if name in second]
    if not names:
        raise ValueError("the two systems have no metric in common")
    a, b = _matrix({name: first[name] for name in names}), _matrix({name: second[name] for name in names})
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} records are compared with {len(b)}; expected the same records in the same order")
    means = _resampled_means(a - b, settings)
    return {
        name: Difference(
            float(a[:, k].mean()),
            float(b[:, k].mean()),
            float((a[:, k] - b[:, k]).mean()),
            _interval(means[:, k], settings),
            _p_value(means[:, k]),
        )
        for k, name in enumerate(names)
    }


def _matrix(scores: Mapping[str, Sequence[float]]) -> np.ndarray:
    lengths = {len(values) for values in scores.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"metrics have {sorted(lengths)} scores; expected one for every record, and at least one record"
        )
    return np.array(list(scores.values()), dtype=np.float64).T


def _resampled_means(values: np.ndarray, settings: BootstrapSettings) -> np.ndarray:
    """``(n, K)`` -> ``(R, K)``."""
    return np.stack([weights @ values for weights in _weights(len(values), settings)])


def _weights(n: int, settings: BootstrapSettings) -> Iterator[np.ndarray]:
    """How often each record stands in a resample, over n."""
    generator = np.random.default_rng(settings.seed)
    for _ in range(settings.resamples):
        yield np.bincount(generator.integers(n, size=n), minlength=n) / n


def _interval(means: np.ndarray, settings: BootstrapSettings) -> tuple[float, float]:
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _p_value(differences: np.ndarray) -> float:
    # Resampled means of equal numbers differ from them in the last bits; they count as zero where the difference is.
    tiny = 1e-12 * max(1.0, float(np.abs(differences).max()))
    rarer = min(int((differences <= tiny).sum()), int((differences >= -tiny).sum()))
    return min(1.0, 2 * (1 + rarer) / (1 + len(differences)))
