"""Learning-rate schedules: a multiplier in [0, 1] as a pure function of the step."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from ingot.config import Config


class ScheduleConfig(Config):
    """Warm-up, a level stretch, and a decay.

    `warmup` and `decay` are shares of the run. Shapes of the decay: `linear` to `floor`, or `cosine`.
    Warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395, section 4; decay to zero: Bergsma et al.
    2025, arXiv 2502.15938.
    """

    warmup: float = Field(default=0.02, ge=0, le=1)
    decay: float = Field(default=0.7, ge=0, le=1)
    floor: float = Field(default=0.0, ge=0, le=1)
    shape: Literal["linear", "cosine"] = "linear"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup ({self.warmup}) and decay ({self.decay}) together exceed the run")
        return self

    def multiplier(self, step: int, steps: int) -> float:
        """Returns the share of the full learning rate at a step.

        Args:
            step: from 0.
            steps: of the whole run.

        Example:
            >>> ScheduleConfig(warmup=0.1, decay=0.5).multiplier(5, 100)
            0.6
        """
        warm = self.warmup * steps
        fading = self.decay * steps
        rising = min(1.0, (step + 1) / warm) if warm >= 1 else 1.0
        left = min(1.0, (steps - step) / fading) if fading >= 1 else 1.0
        falling = left if self.shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
        return rising * (self.floor + (1 - self.floor) * falling)
