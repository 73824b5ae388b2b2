"""Learning-rate schedules: a multiplier in [0, 1] as a pure function of the step.

```
multiplier = warm-up(step) * (floor + (1 - floor) * curve(step)),  each from 0 to 1
```

Nothing is remembered between steps, so a run can go on anywhere.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from ingot.config import Config
from ingot.errors import ConfigError
from ingot.optim.shapes import Shape, between, fall, restarted

Kind = Literal[
    "warmup-stable-decay",
    "constant",
    "linear",
    "cosine",
    "cosine-restarts",
    "one-cycle",
    "inverse-square-root",
]


class ScheduleConfig(Config):
    """How the learning rate rises and falls over a run.

    Lengths are shares of the run, or steps where the field that ends in `_steps` is given.

    Args:
        kind: of the curve after the warm-up (docs/optimizers.md has the equations).
            `warmup-stable-decay`: level, then a decay. Hu et al. 2024, arXiv 2404.06395, section 4; decay
            to zero: Bergsma et al. 2025, arXiv 2502.15938.
            `linear`, `cosine`: falls from the end of the warm-up on.
            `cosine-restarts`: falls again and again. Loshchilov and Hutter 2017, arXiv 1608.03983.
            `one-cycle`: rises to the peak and falls to `floor`. Smith and Topin 2018, arXiv 1708.07120.
            `inverse-square-root`: Vaswani et al. 2017, arXiv 1706.03762, section 5.3.
        warmup: straight rise at the beginning; for `one-cycle` the whole rise.
        decay: the descent at the end of `warmup-stable-decay`.
        floor: share of the full rate that all descents go down to.
        shape: of the descent of `warmup-stable-decay`, and of both flanks of `one-cycle`.
        start: where `one-cycle` starts, as a share of the full rate.
        momenta: lowest and highest momentum of `one-cycle`, lowest at the peak; None leaves it alone.
        period: the first cycle of `cosine-restarts`.
        growth: length of each cycle of `cosine-restarts` by the one before.
        warmup_steps: in place of `warmup`.
        decay_steps: in place of `decay`.
        period_steps: in place of `period`.
    """

    kind: Kind = "warmup-stable-decay"
    warmup: float = Field(default=0.02, ge=0, le=1)
    decay: float = Field(default=0.7, ge=0, le=1)
    floor: float = Field(default=0.0, ge=0, le=1)
    shape: Shape = "linear"
    start: float = Field(default=0.04, ge=0, le=1)
    momenta: tuple[float, float] | None = None
    period: float = Field(default=0.25, gt=0, le=1)
    growth: int = Field(default=1, ge=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    decay_steps: int | None = Field(default=None, ge=0)
    period_steps: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        in_shares = self.warmup_steps is None and self.decay_steps is None
        if self.kind == "warmup-stable-decay" and in_shares and self.warmup + self.decay > 1:
            raise ValueError(f"warmup ({self.warmup}) and decay ({self.decay}) together exceed the run")
        if self.momenta is not None:
            low, high = self.momenta
            if self.kind != "one-cycle":
                raise ValueError(f"momenta ({low}, {high}) go with one-cycle, not with {self.kind}")
            if not 0 <= low <= high < 1:
                raise ValueError(f"momenta ({low}, {high}) must rise and lie in [0, 1)")
        return self

    def check(self, steps: int) -> None:
        """Sees that the schedule fits into a run.

        Args:
            steps: of the whole run.

        Raises:
            ConfigError: the warm-up, the decay or the first cycle is longer than the run.
        """
        parts = {"warmup": self._warm(steps)}
        if self.kind == "warmup-stable-decay":
            parts["decay"] = self._length("decay", steps)
        if self.kind == "cosine-restarts":
            parts["period"] = self._length("period", steps)
        if sum(parts.values()) > steps * (1 + 1e-9):
            words = " + ".join(f"{name} ({length:,.10g})" for name, length in parts.items())
            raise ConfigError(
                f"{words} = {sum(parts.values()):,.10g} steps are longer than the run of {steps:,} steps",
                where="schedule",
                fix="shorten them, or give shares of the run in place of steps",
            )

    def multiplier(self, step: int, steps: int) -> float:
        """Returns the share of the full learning rate at a step.

        Args:
            step: from 0.
            steps: of the whole run.

        Raises:
            ConfigError: the schedule is longer than the run.

        Example:
            >>> ScheduleConfig(warmup=0.1, decay=0.5).multiplier(5, 100)
            0.6
        """
        self.check(steps)
        if self.kind == "one-cycle":
            return self._cycle(step, steps, low=self.start, peak=1.0, last=self.floor)
        warm = self._warm(steps)
        rising = min(1.0, (step + 1) / warm) if warm >= 1 else 1.0
        return rising * (self.floor + (1 - self.floor) * self._falling(step, steps, warm))

    def momentum(self, step: int, steps: int) -> float | None:
        """Returns the momentum at a step where the schedule drives it, else None.

        Args:
            step: from 0.
            steps: of the whole run.
        """
        if self.momenta is None:
            return None
        low, high = self.momenta
        return self._cycle(step, steps, low=high, peak=low, last=high)

    def _falling(self, step: int, steps: int, warm: float) -> float:
        """Height above the floor, from 1 to 0, warm-up aside."""
        match self.kind:
            case "warmup-stable-decay":
                fading = self._length("decay", steps)
                return fall(min(1.0, (steps - step) / fading) if fading >= 1 else 1.0, self.shape)
            case "linear" | "cosine":
                shape: Shape = "linear" if self.kind == "linear" else "cosine"
                return fall(min(1.0, (steps - step) / (steps - warm)) if steps > warm else 1.0, shape)
            case "cosine-restarts":
                since = max(0.0, step - warm)
                return fall(restarted(since, max(1.0, self._length("period", steps)), self.growth), "cosine")
            case "inverse-square-root":
                return min(1.0, math.sqrt(max(1.0, warm) / (step + 1)))
            case _:
                return 1.0

    def _cycle(self, step: int, steps: int, low: float, peak: float, last: float) -> float:
        """One rise and one descent, both ends met exactly: at step 0, at the peak, and at the last step."""
        top = min(max(0.0, self._warm(steps) - 1), steps - 1.0)  # the peak is the last step of the rise
        if step < top:
            return between(low, peak, 1 - step / top, self.shape)
        rest = steps - 1 - top
        return between(peak, last, 1 - (step - top) / rest if rest else 1.0, self.shape)

    def _warm(self, steps: int) -> float:
        return self._length("warmup", steps)

    def _length(self, part: str, steps: int) -> float:
        """A part's length in steps."""
        given: int | None = getattr(self, f"{part}_steps")
        share: float = getattr(self, part)
        return share * steps if given is None else given
