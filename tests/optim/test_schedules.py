"""Schedules against those of torch, against closed forms, and in general."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as reference

from ingot.errors import ConfigError
from ingot.optim.drawing import curve
from ingot.optim.schedules import Kind, ScheduleConfig

STEPS = 200


def theirs(make: Callable[[torch.optim.Optimizer], Any]) -> tuple[list[float], list[float]]:
    """Rates and momenta of torch's scheduler for a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    rates, momenta = [], []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return rates, momenta


def ours(schedule: ScheduleConfig, steps: int = STEPS) -> list[float]:
    return [schedule.multiplier(step, steps) for step in range(steps)]


AGAINST_TORCH: dict[str, tuple[ScheduleConfig, Callable[[torch.optim.Optimizer], Any]]] = {
    "constant": (
        ScheduleConfig(kind="constant", warmup=0),
        lambda o: reference.ConstantLR(o, factor=1.0),
    ),
    "warm-up": (
        ScheduleConfig(kind="constant", warmup_steps=20),
        lambda o: reference.LinearLR(o, start_factor=1 / 20, end_factor=1.0, total_iters=19),
    ),
    "linear": (
        ScheduleConfig(kind="linear", warmup=0, floor=0.1),
        lambda o: reference.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=STEPS),
    ),
    "cosine": (
        ScheduleConfig(kind="cosine", warmup=0, floor=0.1),
        lambda o: reference.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.1),
    ),
    "cosine-restarts": (
        ScheduleConfig(kind="cosine-restarts", warmup=0, floor=0.1, period=0.1),
        lambda o: reference.CosineAnnealingWarmRestarts(o, T_0=20, eta_min=0.1),
    ),
    "cosine-restarts, growing": (
        ScheduleConfig(kind="cosine-restarts", warmup=0, floor=0.1, period_steps=10, growth=3),
        lambda o: reference.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=3, eta_min=0.1),
    ),
}


@pytest.mark.parametrize("name", AGAINST_TORCH)
def test_equal_to_torch(name: str) -> None:
    schedule, make = AGAINST_TORCH[name]
    # torch's chained products round at every step; 200 of them come to about 1e-14.
    assert ours(schedule) == pytest.approx(theirs(make)[0], abs=1e-12, rel=0)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_one_cycle_equals_torchs_with_its_momentum(shape: str) -> None:
    schedule = ScheduleConfig(
        kind="one-cycle", warmup=0.3, start=1 / 25, floor=1 / 25e4, shape=shape, momenta=(0.85, 0.95)
    )
    strategy = {"linear": "linear", "cosine": "cos"}[shape]

    def make(optimizer: torch.optim.Optimizer) -> Any:
        return reference.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=STEPS, pct_start=0.3, anneal_strategy=strategy
        )

    rates, momenta = theirs(make)
    assert ours(schedule) == pytest.approx(rates, abs=1e-12, rel=0)
    mine = [schedule.momentum(step, STEPS) for step in range(STEPS)]
    assert mine == pytest.approx(momenta, abs=1e-12, rel=0)


def test_inverse_square_root_is_that_of_the_transformer() -> None:
    """lr = d^-0.5 min(n^-0.5, n w^-1.5), arXiv 1706.03762 section 5.3, over its peak of (d w)^-0.5."""
    warm = 16
    paper = [min(n**-0.5, n * warm**-1.5) / warm**-0.5 for n in range(1, STEPS + 1)]
    schedule = ScheduleConfig(kind="inverse-square-root", warmup_steps=warm)
    assert ours(schedule) == pytest.approx(paper, abs=1e-12, rel=0)


def test_warmup_stable_decay_in_closed_form() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay_steps=50, floor=0.2, shape="cosine")
    expected = [(n + 1) / 10 for n in range(10)] + [1.0] * 140
    expected += [0.2 + 0.8 * (1 + math.cos(math.pi * n / 50)) / 2 for n in range(50)]
    assert ours(schedule) == pytest.approx(expected, abs=1e-12, rel=0)


def test_a_warm_up_stands_before_every_other_curve() -> None:
    for kind in ("linear", "cosine", "cosine-restarts", "constant", "inverse-square-root"):
        values = ours(ScheduleConfig(kind=kind, warmup=0.1))
        assert values[:20] == pytest.approx([(n + 1) / 20 for n in range(20)], abs=1e-12)
        assert values[20] <= 1.0


shares = st.floats(0, 1, allow_nan=False)


@given(
    kind=st.sampled_from(Kind.__args__),
    warmup=shares,
    decay=shares,
    floor=shares,
    start=shares,
    period=st.floats(0.001, 1),
    growth=st.integers(1, 4),
    shape=st.sampled_from(["linear", "cosine"]),
    steps=st.integers(1, 10_000),
    place=shares,
)
def test_every_multiplier_is_a_share(
    kind: Any,
    warmup: float,
    decay: float,
    floor: float,
    start: float,
    period: float,
    growth: int,
    shape: Any,
    steps: int,
    place: float,
) -> None:
    decay, period = decay * (1 - warmup), period * (1 - warmup) or 0.001
    schedule = ScheduleConfig(
        kind=kind, warmup=warmup * 0.99, decay=decay * 0.99, floor=floor, start=start, period=period,
        growth=growth, shape=shape, momenta=(0.8, 0.9) if kind == "one-cycle" else None,
    )  # fmt: skip
    step = min(steps - 1, int(place * steps))
    value = schedule.multiplier(step, steps)
    assert 0 <= value <= 1
    momentum = schedule.momentum(step, steps)
    assert momentum is None or 0.8 - 1e-12 <= momentum <= 0.9 + 1e-12
    again = ScheduleConfig.parse(schedule.plain())  # another process, started at this very step
    assert again.multiplier(step, steps) == value


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (ScheduleConfig(kind="cosine", warmup_steps=500), r"warmup \(500\) = 500 .* run of 100 steps"),
        (ScheduleConfig(warmup_steps=60, decay_steps=50), r"warmup \(60\) \+ decay \(50\) = 110 .* 100"),
        (ScheduleConfig(kind="cosine-restarts", warmup=0, period_steps=101), r"period \(101\) .* 100"),
    ],
)
def test_a_schedule_longer_than_the_run_is_refused_with_both_values(
    schedule: ScheduleConfig, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        schedule.check(100)
    with pytest.raises(ConfigError, match=words):
        schedule.multiplier(0, 100)
    schedule.check(1000)


def test_refusals_name_the_values() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        ScheduleConfig.parse({"kind": "cosin"})
    with pytest.raises(ConfigError, match="together exceed"):
        ScheduleConfig.parse({"warmup": 0.5, "decay": 0.6})
    with pytest.raises(ConfigError, match="go with one-cycle, not with cosine"):
        ScheduleConfig.parse({"kind": "cosine", "momenta": [0.8, 0.9]})
    with pytest.raises(ConfigError, match="must rise"):
        ScheduleConfig.parse({"kind": "one-cycle", "momenta": [0.9, 0.8]})


@pytest.mark.parametrize("steps", [1, 2, 7, 200, 12_345])
def test_a_curve_has_both_ends_and_few_points(steps: int) -> None:
    schedule = ScheduleConfig()
    points = curve(schedule, steps)
    assert len(points) == min(steps, 200)
    assert points[0][0] == 0 and points[-1][0] == steps - 1
    assert [x for x, _ in points] == sorted({x for x, _ in points})
    assert all(y == schedule.multiplier(x, steps) for x, y in points)
