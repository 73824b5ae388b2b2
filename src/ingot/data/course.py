"""The course of a mixture: how much of each source is wanted up to any moment of a training.

Rates are piecewise linear in time, so what is wanted is piecewise quadratic, and known at any moment
without adding up what came before. A source that is used up leaves its share to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_FOREVER = float("inf")


class Course(NamedTuple):
    """What is wanted of each source over time.

    Args:
        knots: [n] steps, the first 0, where rates change otherwise than evenly.
        rates: [n, sources] rows per step, at each knot.
        slopes: [n, sources] by which rates change in a step, after each knot.
        before: [n, sources] rows that were wanted before each knot.
        end: step from which on nothing is left of what has a share, or infinity.
    """

    knots: NDArray[np.float64]
    rates: NDArray[np.float64]
    slopes: NDArray[np.float64]
    before: NDArray[np.float64]
    end: float

    def wanted(self, moment: float) -> NDArray[np.float64]:
        """Returns how many rows of each source are wanted before a moment, in steps."""
        at = max(0, int(np.searchsorted(self.knots, moment, side="right")) - 1)
        span = moment - self.knots[at]
        return self.before[at] + span * (self.rates[at] + self.slopes[at] * span / 2)


def course(steps: Sequence[int], rates: NDArray[np.float64], most: NDArray[np.float64]) -> Course:
    """Follows rates from step 0 on; a source that is used up leaves its share to the others.

    Their shares at all later knots are scaled up in proportion; a knot that wants nothing but what is used up
    is left out.

    Args:
        steps: of the knots, ascending.
        rates: [knots, sources] rows per step, linear between knots; all rows have one sum.
        most: [sources] rows that each source has, or infinity.
    """
    late = [(float(step), rate) for step, rate in zip(steps, rates, strict=True) if step > 0]
    now, rate, wanted = 0.0, rates[0], np.zeros(rates.shape[1])
    gone = np.zeros(len(wanted), dtype=bool)
    found: list[tuple[Any, ...]] = []
    while True:
        until = late[0][0] if late else _FOREVER
        slope = (late[0][1] - rate) / (until - now) if late else 0 * rate
        used_up = np.array([_reached(*one) for one in zip(rate, slope, most - wanted, strict=True)])
        used_up[gone] = _FOREVER
        span = min(until - now, float(used_up.min()))
        found.append((now, rate, slope, wanted))
        if span == _FOREVER:
            break
        now, wanted = now + span, wanted + span * (rate + slope * span / 2)
        rate = rate + slope * span
        if now >= until:
            rate = late.pop(0)[1]
        ended = used_up <= span
        gone, wanted = gone | ended, np.where(ended, most, wanted)
        total = float(rates[0].sum())
        left = _left_to_others(rate, gone, total)
        if left is None:
            found.append((now, 0 * rate, 0 * rate, wanted))
            break
        rate = left
        scaled = [(step, _left_to_others(one, gone, total)) for step, one in late]
        late = [(step, one) for step, one in scaled if one is not None]
    knots, kept, slopes, before = (np.array(one) for one in zip(*found, strict=True))
    return Course(knots, kept, slopes, before, _FOREVER if span == _FOREVER else now)


def _reached(rate: float, slope: float, rest: float) -> float:
    """When a rate that changes evenly has brought as much as is left; infinity where it never does."""
    if rest <= 0:
        return 0.0
    if rest == _FOREVER or (rate <= 0 and slope <= 0):
        return _FOREVER
    under = rate * rate + 2 * slope * rest
    return 2 * rest / (rate + under**0.5) if under >= 0 else _FOREVER


def _left_to_others(
    rates: NDArray[np.float64], gone: NDArray[np.bool_], total: float
) -> NDArray[np.float64] | None:
    """The rates when those that are gone give nothing, or None where nothing is left."""
    left = np.where(gone, 0.0, rates)
    return left * (total / left.sum()) if left.sum() > 0 else None
