"""A schedule as points, for whoever draws it."""

from __future__ import annotations

from ingot.optim.schedules import ScheduleConfig


def curve(schedule: ScheduleConfig, steps: int, points: int = 200) -> list[tuple[int, float]]:
    """Returns steps, evenly spread over a run, with their multipliers; the first and the last among them.

    Args:
        schedule: whose multipliers.
        steps: of the whole run.
        points: at most so many, 2 or more.

    Raises:
        ConfigError: the schedule is longer than the run.

    Example:
        >>> curve(ScheduleConfig(kind="linear", warmup=0), steps=5, points=3)
        [(0, 1.0), (2, 0.6), (4, 0.2)]
    """
    last = steps - 1
    chosen = range(steps) if steps <= points else [round(i * last / (points - 1)) for i in range(points)]
    return [(step, schedule.multiplier(step, steps)) for step in chosen]
