"""Doubt, in numbers: 95 % intervals of what was measured on a sample of documents or prompts.

Documents and prompts are resampled, not tokens: another run would meet other documents, and the tokens
of one document belong together. Two models are compared on the same draws (paired), which removes what
the documents differ by and leaves what the models differ by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 10_000
"""Bootstrap samples: under another seed the ends move by about a hundredth of the interval's width.

Source: Efron 1979, doi 10.1214/aos/1176344552, section 2; percentile intervals.
"""

_Z = 1.959963984540054


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends are on the same side of zero."""
        return self.low > 0 or self.high < 0


def wilson(successes: int, trials: int) -> Interval:
    """Returns the interval of a rate; unlike the bootstrap's it is right at 0 and 1 too.

    Source: Wilson 1927, doi 10.1080/01621459.1927.10502953.

    Example:
        >>> [round(end, 3) for end in wilson(0, 100)]
        [0.0, 0.037]
    """
    if trials == 0:
        return Interval(0.0, 1.0)
    rate, weight = successes / trials, _Z**2 / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(low, high)


def ratio_interval(above: ArrayLike, below: ArrayLike, seed: int = 0) -> Interval:
    """Returns the interval of sum(above) / sum(below) over resampled items.

    Args:
        above: [n], nats of each document for instance.
        below: [n], bytes of the same documents.
        seed: of the draws.
    """
    return _bootstrap([above, below], lambda a, b: a / b, seed)


def relative_interval(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Interval:
    """Returns the interval of sum(second) / sum(first) - 1: how much more the second model needs.

    Args:
        first: [n], nats of each document under one model.
        second: [n], nats of the same documents under the other.
        seed: of the draws.
    """
    return _bootstrap([first, second], lambda a, b: b / a - 1, seed)


def difference_interval(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Interval:
    """Returns the interval of mean(second) - mean(first) on the same items (paired bootstrap).

    Args:
        first: [n], outcomes (true or false, or numbers) of one model.
        second: [n], outcomes of the other on the same prompts.
        seed: of the draws.
    """
    ones = np.ones(len(np.asarray(first)))
    return _bootstrap([first, second, ones], lambda a, b, n: (b - a) / n, seed)


def _bootstrap(
    columns: Sequence[ArrayLike], statistic: Callable[..., NDArray[np.float64]], seed: int
) -> Interval:
    """Percentile interval of a statistic of column sums, items drawn with replacement."""
    values = np.stack([np.asarray(column, dtype=np.float64) for column in columns])  # [columns, n]
    n = values.shape[1]
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=DRAWS)  # [DRAWS, n]: how often each was drawn
    sums = values @ counts.T  # [columns, DRAWS]
    low, high = np.percentile(statistic(*sums), [2.5, 97.5])
    return Interval(float(low), float(high))
