"""What a race allows to be said: means with intervals, and differences only where they leave the noise.

The difference of two optimizers is taken seed by seed (paired), since a seed is the same first weights and
the same text for both. Everybody is compared with the best, which was itself chosen by looking; so 95 % holds
for all pairs together (Bonferroni). In simulated races of equals some difference is found in 2 to 5 of 100;
counting only the comparisons that are made, it would be 10.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from ingot.bench.race import Result
from ingot.evaluate.statistics import Interval

LEVEL = 0.95


class Verdict(NamedTuple):
    """One contender's place.

    Args:
        name: of the contender.
        mean: bits per byte over seeds; infinite where a run diverged.
        interval: of the mean, 95 %, or None where a run diverged.
        behind: how many bits per byte behind the best, over all seeds, or None for the best itself.
        steps_to_target: mean over seeds, or None where some run did not get there.
        words: what may be said.
    """

    name: str
    mean: float
    interval: Interval | None
    behind: Interval | None
    steps_to_target: float | None
    words: str


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Returns Student's interval of the mean.

    Args:
        values: two or more.
        level: of confidence.

    Source: Student 1908, doi 10.1093/biomet/6.1.1.

    Example:
        >>> [round(end, 2) for end in t_interval([1.0, 2.0, 3.0])]
        [-0.48, 4.48]
    """
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    half = float(t.ppf((1 + level) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean - half, mean + half)


def middle(results: Sequence[Result]) -> float:
    """Returns the bits per byte that half of the contenders reach: the target that steps are counted to."""
    return statistics.median_high([statistics.fmean(one.scores) for one in results])


def verdicts(results: Sequence[Result], target: float) -> list[Verdict]:
    """Judges a race.

    Args:
        results: the best mean first.
        target: bits per byte to count the steps to.
    """
    pairs = max(1, math.comb(len(results), 2))
    return [_verdict(one, results[0], pairs, target) for one in results]


def plain(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Returns verdicts as plain data, without infinities."""
    return [one._asdict() | {"mean": one.mean if math.isfinite(one.mean) else None} for one in found]


def _verdict(one: Result, best: Result, pairs: int, target: float) -> Verdict:
    name, scores = one.contender.name, one.scores
    mean = statistics.fmean(scores)
    reached = [run.steps_to(target) for run in one.runs]
    known = [steps for steps in reached if steps is not None]
    steps = statistics.fmean(known) if len(known) == len(reached) else None
    if not math.isfinite(mean):
        return Verdict(name, mean, None, None, steps, "diverged")
    interval = t_interval(scores)
    if one is best:
        return Verdict(name, mean, interval, None, steps, "lowest mean")
    differences = [mine - theirs for mine, theirs in zip(scores, best.scores, strict=True)]
    behind = t_interval(differences, 1 - (1 - LEVEL) / pairs)
    leader = best.contender.name
    if behind.low > 0:
        words = f"behind {leader} by {behind.low:.3f} to {behind.high:.3f}"
    else:
        words = f"no difference from {leader} beyond the noise"
    return Verdict(name, mean, interval, behind, steps, words)
