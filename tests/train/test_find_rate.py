"""The learning-rate range test: it leaves no trace, stops in time, and suggests what a sweep finds best."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.errors import IngotError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss, Objective
from ingot.optim.joint import Joint, OptimizerConfig
from ingot.train.find_rate import draw, find_rate, find_rate_for
from ingot.train.step import Accumulate, loss_function


class Classes:
    """Sums the cross-entropy of classes."""

    def weight(self, batch: Batch) -> float:
        return float(len(batch["labels"]))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        return Loss(cross_entropy(model(batch["points"]), batch["labels"], reduction="sum"), {})


class Clouds:
    """Points around ten centres."""

    def batch(self, step: int) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(step + 7)
        centres = 1.2 * torch.randn(10, 20, generator=torch.Generator().manual_seed(3))
        labels = torch.randint(0, 10, (32,), generator=chance)
        return {"points": centres[labels] + torch.randn(32, 20, generator=chance), "labels": labels}


class Chain:
    """Text of a Markov chain."""

    def __init__(self) -> None:
        fixed = torch.Generator().manual_seed(5)
        self.cumulated = torch.softmax(2.5 * torch.randn(32, 32, generator=fixed), 1).cumsum(1)

    def batch(self, step: int) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(step + 1000)
        text = torch.randint(0, 32, (16, 33), generator=chance)
        drawn = torch.rand(16, 33, generator=chance)
        for place in range(1, 33):
            below = self.cumulated[text[:, place - 1]] < drawn[:, place : place + 1]
            text[:, place] = below.sum(1).clamp(max=31)
        return {"inputs": text[:, :-1].contiguous(), "targets": text[:, 1:].contiguous()}


def decoder(config: OptimizerConfig) -> tuple[nn.Module, Joint]:
    model = DecoderConfig(
        vocabulary=32, width=32, layers=2, heads=2, kv_heads=1, head_width=16, feed_forward=64, context=32
    ).build(0)
    return model, config.build(model)


def classifier() -> tuple[nn.Module, Joint]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    return model, Joint([torch.optim.AdamW(model.parameters(), lr=1e-3)])


def language() -> tuple[nn.Module, Joint, Objective, Chain]:
    return *decoder(OptimizerConfig()), CausalLM(), Chain()


def language_by_adam() -> tuple[nn.Module, Joint, Objective, Chain]:
    return *decoder(OptimizerConfig(matrix_rate=0, embedding_rate=0.004)), CausalLM(), Chain()


def clouds() -> tuple[nn.Module, Joint, Objective, Clouds]:
    return *classifier(), Classes(), Clouds()


@pytest.mark.parametrize("warm", [False, True])
def test_everything_is_bit_equal_afterwards(warm: bool) -> None:
    model, optimizer, objective, stream = language()
    if warm:
        forward = loss_function(model, objective, torch.float32, False, "cpu")
        Accumulate(objective, forward, optimizer, None, 1.0).update(stream.batch(0), 1.0)
    model.eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    moments = {name: value.clone() for name, value in optimizer.tensors().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    chance = torch.get_rng_state()
    find_rate_for(model, objective, stream, optimizer, steps=30)
    assert not model.training and torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    after = optimizer.tensors()
    assert after.keys() == moments.keys() and (bool(moments) == warm)
    assert all(torch.equal(value, moments[name]) for name, value in after.items())
    for parameter, before in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (before is None)
        assert before is None or torch.equal(parameter.grad, before)


def test_it_is_as_before_even_when_the_loss_breaks_an_update() -> None:
    model, optimizer, objective, _ = clouds()
    weights = [p.detach().clone() for p in model.parameters()]

    class Broken(Clouds):
        def batch(self, step: int) -> dict[str, Tensor]:
            if step == 5:
                raise RuntimeError("the disk is gone")
            return super().batch(step)

    with pytest.raises(RuntimeError, match="disk"):
        find_rate_for(model, objective, Broken(), optimizer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))


def test_rates_rise_geometrically_and_stop_where_the_loss_breaks() -> None:
    def update(step: int, rate: float) -> float:
        return 2.0 - 0.1 * math.log10(rate / 1e-3) if rate < 1 else 50.0

    finding = find_rate(update, low=1e-3, high=1e3, steps=61)
    assert np.allclose(np.diff(np.log10(finding.rates)), 0.1)
    assert finding.broke and 1 <= finding.rates[-1] < 10
    assert finding.suggestion == pytest.approx(1 / 10, rel=0.3)
    calm = find_rate(lambda step, rate: 1 / (1 + step), steps=20)
    assert not calm.broke and "look higher" in calm.text()


def test_a_loss_that_is_not_finite_ends_it() -> None:
    finding = find_rate(lambda step, rate: math.nan if step == 30 else 1 / (1 + step), steps=100)
    assert finding.broke and len(finding.losses) == 30


@pytest.mark.parametrize(
    ("low", "high", "steps", "words"),
    [(0.0, 1.0, 50, "no range"), (1.0, 1.0, 50, "no range"), (0.1, 1.0, 5, "5 steps is no range")],
)
def test_no_range_is_refused(low: float, high: float, steps: int, words: str) -> None:
    with pytest.raises(IngotError, match=words):
        find_rate(lambda step, rate: 1.0, low, high, steps)


def test_a_loss_that_never_falls_has_no_suggestion() -> None:
    with pytest.raises(IngotError, match="never fell"):
        find_rate(lambda step, rate: 1.0 + step, steps=20)


def test_the_curve_can_be_drawn(tmp_path: Path) -> None:
    model, optimizer, objective, stream = clouds()
    draw(find_rate_for(model, objective, stream, optimizer, steps=40), tmp_path / "rate.png")
    assert (tmp_path / "rate.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
@pytest.mark.parametrize("task", [language, language_by_adam, clouds])
def test_the_suggestion_is_near_the_best_of_a_sweep(
    task: Callable[[], tuple[nn.Module, Joint, Objective, Chain | Clouds]],
) -> None:
    torch.set_num_threads(1)
    steps = 150
    model, optimizer, objective, stream = task()
    finding = find_rate_for(model, objective, stream, optimizer)
    results = {}
    for rate in np.geomspace(0.1, 100, 10):
        model, optimizer, objective, stream = task()
        forward = loss_function(model, objective, torch.float32, False, "cpu")
        program = Accumulate(objective, forward, optimizer, None, 1.0)
        for step in range(steps):
            program.update(stream.batch(step), rate * min(1, (steps - step) / (0.7 * steps)))
        with torch.no_grad():
            held = [stream.batch(10**6 + k) for k in range(10)]
            results[rate] = sum(float(objective.loss(model, b).sum) / objective.weight(b) for b in held)
    best = min(results, key=results.__getitem__)
    print(task.__name__, finding.text(), "best", best, {f"{k:.2g}": round(v, 3) for k, v in results.items()})
    assert best / 3.2 <= finding.suggestion <= best * 3.2
