"""The learning-rate schedules of a recipe's training stages, as a text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ingot.errors import ConfigError
from ingot.optim.drawing import curve
from ingot.optim.schedules import ScheduleConfig
from ingot.pipeline import Stage

POINTS = 400
ASSUMED_STEPS = 1000
"""Of a stage whose steps nobody has planned; only schedules that count in steps look different then."""

_BARS = " ▁▂▃▄▅▆▇█"
_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280")
_ENDINGS = (".png", ".svg", ".pdf")


class Course(NamedTuple):
    """How the rate of one stage goes: the share of its full rate, from its first step to its last."""

    stage: str
    minutes: float
    kind: str
    shares: list[float]


def courses(stages: Sequence[Stage], steps: int | None = None) -> list[Course]:
    """Returns the course of every stage that has a schedule.

    Args:
        stages: of the recipe.
        steps: of the pretraining, where they are planned.

    Raises:
        ConfigError: the pretraining's schedule is longer than its steps.
    """
    found = []
    for stage in stages:
        schedule = getattr(stage.config, "schedule", None)
        if isinstance(schedule, ScheduleConfig):
            fields = schedule.plain()
            needed = sum(value or 0 for name, value in fields.items() if name.endswith("_steps"))
            count = steps if steps and stage.name == "pretrain" else ASSUMED_STEPS + needed
            shares = [share for _, share in curve(schedule, count, POINTS)]
            minutes = float(getattr(stage.config, "minutes", 1.0))
            kind = str(fields["kind"])
            found.append(Course(stage.name, minutes, kind, shares))
    return found


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """Returns values as a row of bars, each the mean of its part; full height is the greatest value.

    Example:
        >>> sparkline([0.0, 0.5, 1.0, 0.0], 4)
        ' ▄█ '
    """
    width = min(width, len(values))
    cuts = [k * len(values) // width for k in range(width + 1)]
    parts = [values[start:end] for start, end in pairwise(cuts)]
    means = [sum(part) / len(part) for part in parts]
    top = max(means) or 1.0
    return "".join(_BARS[round(mean / top * (len(_BARS) - 1))] for mean in means)


def text(found: Sequence[Course], width: int = 48) -> list[str]:
    """Returns one line per stage: its name, its curve, its minutes and its schedule's name."""
    longest = max((len(course.stage) for course in found), default=0)
    return [
        f"{one.stage:<{longest}}  {sparkline(one.shares, width)}  {one.minutes:.3g} min, {one.kind}"
        for one in found
    ]


def draw(found: Sequence[Course], path: Path) -> None:
    """Writes the courses, one after another on the recipe's minutes, as a picture.

    Args:
        found: at least one course.
        path: whose ending says which kind of picture.

    Raises:
        ConfigError: an ending that is none of png, svg, pdf, or a recipe without a schedule.
    """
    if path.suffix not in _ENDINGS:
        fix = f"end it with one of {', '.join(_ENDINGS)}"
        raise ConfigError(f"no picture is of the kind '{path.suffix}'", where=f"--plot {path}", fix=fix)
    if not found:
        raise ConfigError("no stage of this recipe has a schedule", where="--plot", fix="leave it out")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    start = 0.0
    for place, one in enumerate(found):
        colour = _COLOURS[place % len(_COLOURS)]
        last = max(1, len(one.shares) - 1)
        minutes = [start + one.minutes * point / last for point in range(len(one.shares))]
        axes.plot(minutes, one.shares, color=colour, linewidth=2)
        axes.fill_between(minutes, one.shares, color=colour, alpha=0.12)
        axes.text(start + one.minutes / 2, 1.04, one.stage, color=colour, ha="center", va="bottom")
        start += one.minutes
        if place < len(found) - 1:
            axes.axvline(start, color="0.75", linewidth=1)
    axes.set_xlim(0, start)
    axes.set_ylim(0, 1.15)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("share of the stage's full rates")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    figure.savefig(path, dpi=150)
