"""A race of optimizers: same model, same text, same seconds, a swept rate for each, several seeds.

```
pace    seconds of an update of each        -> steps that its seconds suffice for, fixed from then on
sweep   rates a factor of three apart       -> the best for this many steps; widened while it is an edge
race    that rate under fresh seeds         -> bits per byte of held-out text, with their doubt
```

Of one seed all contenders have the same first weights and see the same text in the same order, so that
their differences are taken seed by seed. The sweep has a seed of its own: a rate is not judged by the run
that it was chosen for.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from ingot.bench.contenders import Contender
from ingot.bench.material import CONTEXT, MODEL, ROWS, Material
from ingot.config import Config
from ingot.data.stream import WindowStream
from ingot.models.decoder import Decoder
from ingot.optim.schedules import ScheduleConfig
from ingot.progress import Progress, Task

APART = 3.0  # between neighbouring rates of a sweep
_WIDEST = 3  # rates beyond the first three, at most
_LOOKS = 8  # validations of a run
_FEWEST_STEPS = 10
_SWEEP_SEED = 10_000
SCHEDULE = ScheduleConfig(warmup=0.05, decay=0.7)


class RaceConfig(Config):
    """How long to race, and how often.

    Args:
        seconds: of training in each run.
        steps: of each run, in place of seconds: the same number for all.
        seeds: runs at the chosen rate.
        seed: of the first of them.
    """

    seconds: float = Field(default=1.5, gt=0)
    steps: int | None = Field(default=None, ge=_FEWEST_STEPS)
    seeds: int = Field(default=5, ge=3)
    seed: int = 0


class Run(NamedTuple):
    """One training run.

    Args:
        seed: of first weights and order.
        factor: of the rates.
        curve: (step, bits per byte of the held-out text), the last at the end.
    """

    seed: int
    factor: float
    curve: list[tuple[int, float]]

    @property
    def score(self) -> float:
        """Bits per byte at the end; infinite where the run diverged."""
        return self.curve[-1][1]

    def steps_to(self, target: float) -> float | None:
        """Returns the step at which the curve first meets a number of bits per byte, or None."""
        before: tuple[int, float] | None = None
        for step, bits in self.curve:
            if bits <= target:
                if before is None or not math.isfinite(before[1]):
                    return float(step)
                share = (before[1] - target) / (before[1] - bits)
                return before[0] + share * (step - before[0])
            before = (step, bits)
        return None


class Result(NamedTuple):
    """What became of a contender.

    Args:
        contender: who.
        seconds_per_step: measured before the race.
        steps: of each run.
        sweep: bits per byte by factor of the rates.
        factor: the best of them.
        edge: whether it is still the lowest or highest that was tried.
        runs: under the fresh seeds.
    """

    contender: Contender
    seconds_per_step: float
    steps: int
    sweep: dict[float, float]
    factor: float
    edge: bool
    runs: list[Run]

    @property
    def scores(self) -> list[float]:
        """Bits per byte of every run."""
        return [run.score for run in self.runs]

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "optimizer": self.contender.name,
            "settings": self.contender.config.plain() | {"rho": self.contender.rho},
            "rate": self.contender.rate(self.factor),
            "at_edge_of_sweep": self.edge,
            "sweep": {f"{self.contender.rate(factor):.4g}": bits for factor, bits in self.sweep.items()},
            "seconds_per_step": self.seconds_per_step,
            "steps": self.steps,
            "runs": [{"seed": run.seed, "curve": run.curve} for run in self.runs],
        }


def race(
    contenders: Sequence[Contender],
    config: RaceConfig,
    text: Material,
    progress: Progress,
    device: str = "cpu",
) -> list[Result]:
    """Lets optimizers race.

    Args:
        contenders: who takes part.
        config: how long and how often.
        text: what is learnt.
        progress: is told of every run.
        device: where to train.

    Returns:
        One result per contender, the best mean first.
    """
    runs = len(contenders) * (3 + config.seeds)
    with progress.task("racing optimizers", runs, "runs") as task:
        paces = pace(contenders, text, device)
        results = [_result(one, paces[one.name], config, text, device, task) for one in contenders]
    return sorted(results, key=lambda result: statistics.fmean(result.scores))


def pace(contenders: Sequence[Contender], text: Material, device: str) -> dict[str, float]:
    """Returns the seconds of each one's update; they take turns, so that all meet the same machine."""
    stream = WindowStream(text.train, CONTEXT, ROWS, _SWEEP_SEED)
    programs = {one.name: one.program(MODEL.build().to(device), device) for one in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(5):
        for name, program in programs.items():
            start = time.perf_counter()
            for step in range(4):
                program.update(stream.batch(step), 1e-3)
            if turn:  # the first one warms up
                seconds[name].append((time.perf_counter() - start) / 4)
    # The least, since a busy neighbour only ever adds to it.
    return {name: min(taken) for name, taken in seconds.items()}


def train(
    contender: Contender, text: Material, steps: int, factor: float, seed: int, device: str = "cpu"
) -> Run:
    """Trains one model.

    Args:
        contender: the optimizer.
        text: what is learnt.
        steps: of the run.
        factor: of the contender's rates.
        seed: of first weights and order.
        device: where to train.
    """
    model = MODEL.build(seed).to(device)
    program = contender.program(model, device)
    stream = WindowStream(text.train, CONTEXT, ROWS, seed)
    looks = {round(steps * number / _LOOKS) for number in range(1, _LOOKS + 1)}
    curve = []
    for step in range(steps):
        program.update(stream.batch(step), factor * SCHEDULE.multiplier(step, steps))
        if step + 1 in looks:
            curve.append((step + 1, bits_per_byte(model, text, device)))
    return Run(seed, factor, curve)


@torch.no_grad()
def bits_per_byte(model: Decoder, text: Material, device: str) -> float:
    """Returns what the held-out bytes cost under the model; infinite where that is no number."""
    logits = model(text.inputs.to(device)).logits  # [b, t, v]
    nats = float(cross_entropy(logits.flatten(0, 1), text.targets.to(device).flatten()))
    return nats / math.log(2) if math.isfinite(nats) else math.inf


def _result(
    contender: Contender, pace: float, config: RaceConfig, text: Material, device: str, task: Task
) -> Result:
    steps = config.steps or max(_FEWEST_STEPS, int(config.seconds / pace))
    sweep: dict[float, float] = {}

    def tried(factor: float) -> None:
        sweep[factor] = train(contender, text, steps, factor, _SWEEP_SEED, device).score

    for factor in (1 / APART, 1.0, APART):
        tried(factor)
        task.advance(1, f"{contender.name}: rate {contender.rate(factor):.2g}")
    for _ in range(_WIDEST):
        best = min(sweep, key=lambda factor: sweep[factor])
        if best == min(sweep):
            tried(best / APART)
        elif best == max(sweep):
            tried(best * APART)
    best = min(sweep, key=lambda factor: sweep[factor])
    runs = []
    for seed in range(config.seed, config.seed + config.seeds):
        runs.append(train(contender, text, steps, best, seed, device))
        task.advance(1, f"{contender.name}: {runs[-1].score:.3f} bits per byte")
    edge = best in (min(sweep), max(sweep))
    return Result(contender, pace, steps, dict(sorted(sweep.items())), best, edge, runs)
