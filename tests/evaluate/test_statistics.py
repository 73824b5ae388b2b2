"""Intervals: known values, and that they cover the truth as often as they say, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ingot.evaluate import statistics
from ingot.evaluate.statistics import (
    Interval,
    difference_interval,
    ratio_interval,
    relative_interval,
    wilson,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (160, 320), (1, 320)])
def test_wilson_is_scipys(successes: int, trials: int) -> None:
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_excludes_zero() -> None:
    assert Interval(0.1, 0.2).excludes_zero
    assert Interval(-0.2, -0.1).excludes_zero
    assert not Interval(-0.1, 0.2).excludes_zero
    assert not Interval(0.0, 0.2).excludes_zero


def test_ratio_interval_is_that_of_the_reference_bootstrap() -> None:
    generator = np.random.default_rng(1)
    size = generator.lognormal(8, 1, 60)
    nats = size * generator.normal(1, 0.1, 60)
    theirs = stats.bootstrap(
        (nats, size),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        rng=generator,
        vectorized=True,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ratio_interval(nats, size) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_a_constant_ratio_has_no_doubt() -> None:
    size = np.array([10.0, 20.0, 70.0])
    assert ratio_interval(2 * size, size) == pytest.approx((2, 2))
    assert relative_interval(size, 1.5 * size) == pytest.approx((0.5, 0.5))
    assert difference_interval([True] * 5, [False] * 5) == pytest.approx((-1, -1))
    assert difference_interval([True, False] * 5, [True, False] * 5) == (0, 0)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = np.random.default_rng(0).random((2, 30))
    assert ratio_interval(a, b, seed=3) == ratio_interval(a, b, seed=3)
    assert ratio_interval(a, b, seed=3) != ratio_interval(a, b, seed=4)


def coverage(truth: float, intervals: list[Interval]) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def test_intervals_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    generator = np.random.default_rng(7)
    differences, ratios, relatives = [], [], []
    for trial in range(300):
        hard = generator.random(160)  # prompts differ in how hard they are: outcomes are correlated
        first, second = (generator.random(160) < 1.2 * (1 - hard) * rate for rate in (0.4, 0.6))
        differences.append(difference_interval(first, second, trial))
        size = generator.lognormal(8, 0.7, 80)
        nats = size * generator.normal(1.0, 0.2, 80)
        ratios.append(ratio_interval(nats, size, trial))
        relatives.append(relative_interval(nats, nats * generator.normal(1.01, 0.02, 80), trial))
    truth = float(np.mean(1.2 * 0.2 * (1 - generator.random(10**6))))
    assert 0.91 <= coverage(truth, differences) <= 0.99
    assert 0.90 <= coverage(1.0, ratios) <= 0.99
    assert 0.90 <= coverage(0.01, relatives) <= 0.99


def test_pairing_sees_what_separate_intervals_hide() -> None:
    generator = np.random.default_rng(0)
    size = generator.lognormal(8, 1, 60)
    base = size * generator.normal(1, 0.2, 60)
    worse = base * 1.005
    assert relative_interval(base, worse).excludes_zero
    alone, other = ratio_interval(base, size), ratio_interval(worse, size)
    assert alone.high > other.low
