"""How far annotators agree beyond chance, and whether what stands first wins because it stands first."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ingot.data.preferences.judgements import Judgement

CATEGORIES = ("a", "b", "tie")
DRAWS = 2000

_CELLS = 4_000_000  # of a block of draws, so that many items need no more memory


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance, with a 95 % interval over resampled pairs.

    Args:
        value: 1 is perfect, 0 what chance gives; NaN where all always say the same, so that chance
            explains everything and the question has no answer.
        low: end of the interval; NaN where there is none.
        high: the other end.
        pairs: that at least two annotators judged.
        observed: how often two annotators of a pair say the same.
    """

    value: float
    low: float
    high: float
    pairs: int
    observed: float


@dataclass(frozen=True)
class PositionBias:
    """Whether the answer that was shown first wins more (or less) often than every second time.

    Args:
        first: how often it won.
        judged: how often one of the two won and the order is known.
        rate: first / judged.
        low: end of the 95 % interval of the rate (Wilson).
        high: the other end.
        p_value: of the exact two-sided binomial test against 1/2. Judgements of one pair by several
            annotators are taken as independent, which they are only in what concerns the order.
    """

    first: int
    judged: int
    rate: float
    low: float
    high: float
    p_value: float

    @property
    def found(self) -> bool:
        """Whether the bias is outside the noise (5 %)."""
        return self.p_value < 0.05


def cohen_kappa(first: Sequence[object], second: Sequence[object], seed: int = 0) -> Kappa:
    """Returns the agreement of two annotators.

    Args:
        first: [n], what the one said of each item.
        second: [n], what the other said of the same.
        seed: of the draws for the interval.

    Source: Cohen 1960, doi 10.1177/001316446002000104.

    Example:
        >>> cohen_kappa("aabb", "aaba").value
        0.5
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} judgements: both must judge the same items")
    names = sorted({*first, *second}, key=str)
    table = np.zeros((len(names), len(names)))
    for one, other in zip(first, second, strict=True):
        table[names.index(one), names.index(other)] += 1
    n = len(first)
    if n == 0:
        return Kappa(math.nan, math.nan, math.nan, 0, math.nan)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(n, table.ravel() / n, size=DRAWS).reshape(DRAWS, *table.shape)
    value, observed = _cohen(table[None] / n)
    low, high = _interval(_cohen(drawn / n)[0])
    return Kappa(float(value[0]), low, high, n, float(observed[0]))


def fleiss_kappa(counts: ArrayLike, seed: int = 0) -> Kappa:
    """Returns the agreement of any number of annotators.

    Items need not have the same number of judgements, as long as they have two: each weighs alike in what
    is observed, and by its judgements in what chance would give.

    Args:
        counts: [n, k], how many annotators put item n into category k.
        seed: of the draws for the interval.

    Source: Fleiss 1971, doi 10.1037/h0031619.

    Example:
        >>> fleiss_kappa([[2, 0], [0, 2], [2, 0], [0, 2]]).value
        1.0
    """
    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) >= 2]
    n = len(table)
    if n == 0:
        return Kappa(math.nan, math.nan, math.nan, 0, math.nan)
    raters = table.sum(axis=1)
    agreeing = ((table**2).sum(axis=1) - raters) / (raters * (raters - 1))  # [n]
    generator = np.random.default_rng(seed)
    values = [_fleiss(np.ones((1, n)), agreeing, table)]
    for _ in range(0, DRAWS, size := max(1, min(DRAWS, _CELLS // n))):
        values.append(_fleiss(generator.multinomial(n, np.full(n, 1 / n), size=size), agreeing, table))
    low, high = _interval(np.concatenate(values[1:]))
    return Kappa(float(values[0][0]), low, high, n, float(agreeing.mean()))


def agreement(judgements: Iterable[Judgement], seed: int = 0) -> tuple[Kappa, dict[tuple[str, str], Kappa]]:
    """Returns the agreement of all annotators (Fleiss), and of each two on what both judged (Cohen).

    Args:
        judgements: the last word of each annotator on each pair; those who skipped say nothing.
        seed: of the draws for the intervals.
    """
    by_pair: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one in judgements:
        if one.choice != "skip":
            by_pair[one.pair][one.annotator] = one.choice
    said = [Counter(choices.values()) for choices in by_pair.values()]
    table = [[counted[name] for name in CATEGORIES] for counted in said]
    annotators = sorted({name for choices in by_pair.values() for name in choices})
    two = {}
    for first, second in itertools.combinations(annotators, 2):
        both = [choices for choices in by_pair.values() if first in choices and second in choices]
        if both:
            two[first, second] = cohen_kappa([c[first] for c in both], [c[second] for c in both], seed)
    return fleiss_kappa(np.reshape(table, (-1, len(CATEGORIES))), seed), two


def position_bias(judgements: Iterable[Judgement]) -> PositionBias:
    """Tests whether the answer that was shown first is preferred for its place.

    The page shows the two answers in an order drawn anew for each annotator and pair, so that without a
    bias each place wins half of the time, however much better one of the answers is.

    Args:
        judgements: ties, skips, and those without a known order are left out.

    Example:
        >>> shown = [Judgement(str(n), "x", "a", first="a" if n < 9 else "b") for n in range(10)]
        >>> position_bias(shown).first, position_bias(shown).found
        (9, True)
    """
    from scipy.stats import binomtest

    won = [one.choice == one.first for one in judgements if one.choice in ("a", "b") and one.first]
    if not won:
        return PositionBias(0, 0, math.nan, 0.0, 1.0, 1.0)
    test = binomtest(sum(won), len(won), 0.5)
    span = test.proportion_ci(0.95, method="wilson")
    return PositionBias(
        sum(won), len(won), sum(won) / len(won), float(span.low), float(span.high), float(test.pvalue)
    )


def _fleiss(
    weights: NDArray[Any], agreeing: NDArray[np.float64], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Kappa of items that count as often as `weights` says, [draws, n], by draw."""
    shares = weights @ table  # [draws, k]
    expected = ((shares / shares.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return _beyond(weights @ agreeing / len(table), expected)


def _cohen(tables: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kappa and observed agreement of tables of shares, [m, k, k]."""
    observed = np.trace(tables, axis1=1, axis2=2)
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    return _beyond(observed, expected), observed


def _beyond(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """(observed - expected) / (1 - expected); NaN where chance alone agrees always."""
    room = 1 - expected
    return np.where(room > 1e-12, (observed - expected) / np.where(room > 1e-12, room, 1), np.nan)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(values).mean() > 0.5:
        return math.nan, math.nan
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
