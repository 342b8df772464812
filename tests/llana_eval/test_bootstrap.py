from __future__ import annotations

import numpy as np
import pytest

from llana_eval.bootstrap import BootstrapSettings, confidence_intervals, paired_differences


def test_one_record_or_equal_records_have_no_spread():
    assert confidence_intervals({"m": [5.0]}) == {"m": (5.0, 5.0)}
    assert confidence_intervals({"m": [2.5, 2.5, 2.5]}) == {"m": (2.5, 2.5)}


def test_two_records_by_hand():
    # Of 0 and 10, resampled means are 0, 5, 10 with chances 1/4, 1/2, 1/4: the middle 95 % is [0, 10], the middle 40 % is [5, 5].
    scores = {"m": [0.0, 10.0]}
    assert confidence_intervals(scores) == {"m": (0.0, 10.0)}
    assert confidence_intervals(scores, BootstrapSettings(confidence=0.4)) == {"m": (5.0, 5.0)}


def test_many_records_come_near_the_normal_interval():
    values = np.random.default_rng(1).normal(50, 10, size=400)
    low, high = confidence_intervals({"m": values.tolist()}, BootstrapSettings(resamples=4000))["m"]
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.1)
    assert high == pytest.approx(values.mean() + error, abs=0.1)


def test_the_seed_decides():
    values = {"m": np.random.default_rng(1).normal(size=30).tolist()}
    first, again, other = (confidence_intervals(values, BootstrapSettings(seed=seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_a_pair_by_hand():
    settings = BootstrapSettings(resamples=999)
    # Always better by 1: no resample on the other side, p = 2 (1 + 0) / (1 + 999).
    better = paired_differences({"m": [2.0, 5.0, 9.1]}, {"m": [1.0, 4.0, 8.1]}, settings)["m"]
    assert better.difference == pytest.approx(1.0)
    assert better.interval == pytest.approx((1.0, 1.0))
    assert better.p_value == pytest.approx(0.002)
    # The same: every resample is on both sides.
    same = paired_differences({"m": [2.0, 5.0]}, {"m": [2.0, 5.0]}, settings)["m"]
    assert (same.difference, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)
    # Differences -1 and 3: means -1, 1, 3 with chances 1/4, 1/2, 1/4, so a quarter is on the other side: p near 1/2.
    mixed = paired_differences({"m": [0.0, 3.0]}, {"m": [1.0, 0.0]}, BootstrapSettings(resamples=20_000))["m"]
    assert (mixed.first, mixed.second, mixed.difference) == (1.5, 0.5, 1.0)
    assert mixed.interval == (-1.0, 3.0)
    assert mixed.p_value == pytest.approx(0.5, abs=0.02)


def test_pairing_uses_the_correlation():
    """A small steady gain over noise that both share is seen; unpaired it would drown."""
    dice = np.random.default_rng(0)
    base = dice.normal(50, 20, size=200)
    gain = base + 1 + dice.normal(0, 2, size=200)
    found = paired_differences({"m": gain.tolist()}, {"m": base.tolist()})["m"]
    assert found.p_value < 0.01
    assert found.interval[0] > 0


def test_bad_input():
    with pytest.raises(ValueError, match="no metric in common"):
        paired_differences({"a": [1.0]}, {"b": [1.0]})
    with pytest.raises(ValueError, match="2 records are compared with 1"):
        paired_differences({"a": [1.0, 2.0]}, {"a": [1.0]})
    with pytest.raises(ValueError, match="at least one record"):
        confidence_intervals({"a": []})
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        BootstrapSettings(resamples=0)
    with pytest.raises(ValueError, match=r"confidence must lie between 0 and 1, got 95"):
        BootstrapSettings(confidence=95)
