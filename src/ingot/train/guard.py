"""The guard: no update that is not finite, or far out of the ordinary, reaches the weights.

```
loss, gradient norm -> finite?    -> within 6 sigmas of the last 128 accepted steps? -> accept
                       no: refuse    no: refuse                                          (window grows)
```

The window holds accepted steps only, so that a refused step can never spoil the judgement of the next:
a NaN that enters a window makes its mean and deviation NaN, and every comparison with them false.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from ingot.config import Config

_LOSS_FLOOR = 0.02
_NORM_FLOOR = 0.25


class GuardConfig(Config):
    """When to refuse an update, and when refusing is not enough.

    Args:
        window: accepted steps that an update is compared with.
        least: accepted steps before which only what is not finite is refused.
        sigmas: standard deviations above the window's mean that are too many; None refuses only what is
            not finite.
        skips_before_rollback: updates refused in a row after which the run goes back to its last
            checkpoint, and on from there with the data in another order.
        rollbacks: of a run at most; then it stops.
    """

    window: int = Field(default=128, gt=1)
    least: int = Field(default=32, gt=1)
    sigmas: float | None = Field(default=6.0, gt=0)
    skips_before_rollback: int = Field(default=10, gt=0)
    rollbacks: int = Field(default=3, ge=0)


class Guard:
    """Judges updates by their loss and gradient norm.

    Gradient norms are compared by their logarithms, since they vary by factors. A deviation counts as at
    least 2 % of the loss (of 1, where it is smaller) and as a factor of 1.28 of the norm: a run that has
    become very even shall not stumble over a small bump. So no loss below 1.12 times the mean and no norm
    below 4.5 times the mean is ever refused at 6 sigmas.

    Args:
        config: the limits.

    Attributes:
        skipped: updates refused so far.
        in_row: updates refused since the last that was accepted.

    Source: the window and 6 sigmas as in OLMo 2 (2025, arXiv 2501.00656, section 3.2 on spikes).
    """

    def __init__(self, config: GuardConfig | None = None) -> None:
        self.config = config or GuardConfig()
        self.losses: deque[float] = deque(maxlen=self.config.window)
        self.norms: deque[float] = deque(maxlen=self.config.window)
        self.skipped = 0
        self.in_row = 0

    def verdict(self, loss: float, norm: float) -> str | None:
        """Judges an update, and remembers it.

        Args:
            loss: per counted item.
            norm: of the whole gradient, before clipping.

        Returns:
            None to accept, or why not, in words.
        """
        reason = self._reason(loss, norm)
        if reason is not None:
            self.skipped += 1
            self.in_row += 1
            return reason
        self.in_row = 0
        self.losses.append(loss)
        self.norms.append(_logarithm(norm))
        return None

    def exhausted(self) -> bool:
        """Whether so many updates in a row were refused that going on is pointless."""
        return self.in_row >= self.config.skips_before_rollback

    def _reason(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return "the loss is not finite"
        if not math.isfinite(norm):
            return "the gradient is not finite"
        sigmas = self.config.sigmas
        if sigmas is None or len(self.losses) < min(self.config.least, self.config.window):
            return None
        mean, deviation = _spread(self.losses)
        if loss > mean + sigmas * max(deviation, _LOSS_FLOOR * max(1.0, abs(mean))):
            return f"the loss spikes ({loss:.4g}; mean of the last steps {mean:.4g})"
        mean, deviation = _spread(self.norms)
        if _logarithm(norm) > mean + sigmas * max(deviation, _NORM_FLOOR):
            return f"the gradient spikes (norm {norm:.4g}; mean of the last steps {math.exp(mean):.4g})"
        return None

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps, as plain data."""
        return {
            "losses": list(self.losses),
            "norms": list(self.norms),
            "skipped": self.skipped,
            "in_row": self.in_row,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.losses.clear()
        self.norms.clear()
        self.losses.extend(state["losses"])
        self.norms.extend(state["norms"])
        self.skipped, self.in_row = state["skipped"], state["in_row"]


def _logarithm(norm: float) -> float:
    return math.log(max(norm, 1e-12))


def _spread(values: Sequence[float] | deque[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
