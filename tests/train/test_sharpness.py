"""Sharpness-aware steps against the algorithm written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ingot.errors import ConfigError
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.train.sharpness import SharpnessAware
from ingot.train.step import Gradients

RATE, RHO, CLIP, STEPS, ROWS = 0.05, 0.3, 1.5, 100, 12


class Line(nn.Module):
    """One matrix and one bias, curved by a tanh."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(3, 4, generator=generator, dtype=torch.float64))
        self.c = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.w.T + self.c)


class Squares:
    """Squared errors; every row counts as much as its mask says."""

    def weight(self, batch: Batch) -> float:
        return float(batch["mask"].sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        errors = (model(batch["x"]) - batch["y"]).square().sum(-1) * batch["mask"]
        return Loss(errors.sum(), {})


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, 4, generator=generator, dtype=torch.float64)
    y = torch.sin(x[:, :3]) + 0.1 * torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
    return {"x": x, "y": y, "mask": (torch.rand(ROWS, generator=generator) < 0.7).double()}


def program(model: nn.Module, micro_batch: int | None, clip: float | None = CLIP) -> SharpnessAware:
    optimizer = OptimizerConfig(name="sgd", rate=RATE, momentum=0.0).build(model)
    gradients = Gradients(Squares(), lambda b: Squares().loss(model, b), optimizer.parameters(), micro_batch)
    return SharpnessAware(gradients, optimizer, RHO, clip)


def slope(w: np.ndarray, c: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradient by hand, and the mean loss."""
    x, y, mask = (batch(step)[key].numpy() for key in ("x", "y", "mask"))
    out = np.tanh(x @ w.T + c)
    back = 2 * (out - y) * (1 - out**2) * mask[:, None] / mask.sum()
    return back.T @ x, back.sum(0), float((((out - y) ** 2).sum(1) * mask).sum() / mask.sum())


@pytest.mark.parametrize("micro_batch", [None, 5, 1])
def test_a_hundred_steps_by_the_paper(micro_batch: int | None) -> None:
    model = Line()
    steps = program(model, micro_batch)
    w, c = model.w.detach().numpy().copy(), model.c.detach().numpy().copy()
    for step in range(STEPS):
        update = steps.update(batch(step), multiplier=1.0)
        gw, gc, loss = slope(w, c, step)
        far = RHO / math.sqrt((gw**2).sum() + (gc**2).sum())
        hw, hc, _ = slope(w + far * gw, c + far * gc, step)
        norm = math.sqrt((hw**2).sum() + (hc**2).sum())
        w = w - RATE * hw * min(1, CLIP / norm)
        c = c - RATE * hc * min(1, CLIP / norm)
        assert update.loss == pytest.approx(loss, rel=1e-6)  # totals are summed in float32
        assert update.gradient_norm == pytest.approx(norm, rel=1e-6)
        # Accumulation may round in float32 on its way; 1e-6 is what the project promises.
        assert np.abs(model.w.detach().numpy() - w).max() < 1e-6
        assert np.abs(model.c.detach().numpy() - c).max() < 1e-6


def test_a_gradient_that_is_not_finite_leaves_every_bit_alone() -> None:
    model = Line()
    steps = program(model, None)
    before = [p.detach().clone() for p in model.parameters()]
    bad = batch(0)
    bad["x"][0, 0], bad["mask"][0] = math.nan, 1.0
    update = steps.update(bad, multiplier=1.0)
    assert not update.accepted
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_nothing_happens_where_the_step_is_nought() -> None:
    model = Line()
    before = [p.detach().clone() for p in model.parameters()]
    assert program(model, 4).update(batch(1), multiplier=0.0).accepted
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_running_statistics_see_the_first_pass_only() -> None:
    x = batch(3)["x"].float()
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    optimizer = OptimizerConfig(name="sgd").build(model)
    ours = {"x": x, "y": batch(3)["y"].float(), "mask": torch.ones(ROWS)}
    gradients = Gradients(Squares(), lambda b: Squares().loss(model, b), optimizer.parameters(), model=model)
    SharpnessAware(gradients, optimizer).update(ours, multiplier=1.0)
    assert torch.allclose(model[0].running_mean, 0.1 * x.mean(0), atol=1e-6)


def test_a_way_of_no_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="rho is 0"):
        SharpnessAware(program(Line(), None).gradients, OptimizerConfig().build(Line()), rho=0)
