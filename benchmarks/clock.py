"""The seconds of each step of training, whoever runs the loop."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch


class Clock:
    """Times steps after a warm-up, until it has seen enough.

    Args:
        seconds: of measured steps that are enough.
        warm: steps that do not count: compilation, first touches of memory.
        fewest: measured steps, however long they take.

    Example:
        >>> clock = Clock(seconds=0.0, warm=0, fewest=1)
        >>> clock.tick(), clock.tick()
        (False, True)
    """

    def __init__(self, seconds: float, warm: int = 4, fewest: int = 5) -> None:
        self.enough, self.warm, self.fewest = seconds, warm, fewest
        self.steps: list[float] = []
        self._ticks: list[float] = []

    def tick(self) -> bool:
        """Marks the end of a step (the first call: of the first); returns whether enough was seen."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._ticks.append(time.perf_counter())
        if len(self._ticks) > self.warm + 1:
            self.steps.append(self._ticks[-1] - self._ticks[-2])
        return len(self.steps) >= self.fewest and sum(self.steps) >= self.enough

    def figures(self, tokens: int) -> dict[str, Any]:
        """Returns what was measured.

        Args:
            tokens: of one step.
        """
        middle = statistics.median(self.steps)
        return {
            "tokens_per_second": tokens / middle,
            "step_seconds": {"median": middle, "least": min(self.steps), "largest": max(self.steps)},
            "steps": len(self.steps),
        }
