"""Every optimizer against a trusted implementation, or against its paper written out in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ingot.optim.adafactor import Adafactor
from ingot.optim.adam import Adam
from ingot.optim.joint import Joint
from ingot.optim.lion import Lion
from ingot.optim.muon import Muon
from ingot.optim.optimizer import Optimizer
from ingot.optim.rmsprop import RMSprop
from ingot.optim.sgd import SGD

STEPS = 100
SHAPES = [(6, 10), (10, 6), (6, 10), (7,), (3, 4, 5), ()]


def same_weights(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> tuple[list, list]:
    generator = torch.Generator().manual_seed(1)
    ours = [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]
    return ours, [nn.Parameter(p.detach().clone()) for p in ours]


def gradients(weights: list[Tensor], step: int) -> list[Tensor]:
    """Noisy slopes towards zero, of quite different sizes."""
    generator = torch.Generator().manual_seed(100 + step)
    return [
        (p.detach() + torch.randn(p.shape, generator=generator, dtype=p.dtype)) * 10.0 ** (i - 2)
        for i, p in enumerate(weights)
    ]


def give(weights: list[Tensor], slopes: list[Tensor]) -> None:
    for weight, slope in zip(weights, slopes, strict=True):
        weight.grad = slope.clone()


def assert_same_path(
    ours: Callable[[list], Optimizer],
    theirs: Callable[[list], Any],
    shapes: list,
    dtype: torch.dtype,
    scale: float = 1.0,
) -> None:
    mine, reference = same_weights(shapes, dtype)
    a, b = ours(mine), theirs(reference)
    for step in range(STEPS):
        slopes = [slope * scale for slope in gradients(mine, step)]
        give(mine, slopes)
        give(reference, slopes)
        a.step()
        b.step()
    moved = same_weights(shapes, dtype)[0]
    for i, (x, y) in enumerate(zip(mine, reference, strict=True)):
        assert (x - moved[i]).abs().max() > 1e-4  # it did go somewhere
        assert torch.allclose(x, y, rtol=1e-6, atol=1e-6), shapes[i]


ADAM = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-8, "weight_decay": 0.1}

AGAINST_TORCH: dict[str, tuple[Callable[[list], Optimizer], Callable[[list], Any]]] = {
    "sgd": (
        lambda p: SGD(p, 0.001, momentum=0.9, kind="heavy-ball", weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.001, momentum=0.9, weight_decay=0.1),
    ),
    "sgd, nesterov": (
        lambda p: SGD(p, 0.001, momentum=0.9, kind="nesterov"),
        lambda p: torch.optim.SGD(p, 0.001, momentum=0.9, nesterov=True),
    ),
    "sgd, plain": (lambda p: SGD(p, 0.001, momentum=0.0), lambda p: torch.optim.SGD(p, 0.001)),
    "rmsprop": (
        lambda p: RMSprop(p, 0.01, beta2=0.9, momentum=0.5, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, momentum=0.5, weight_decay=0.1),
    ),
    "adam": (
        lambda p: Adam(p, 0.01, (0.8, 0.95), 1e-8, 0.1, decay="coupled"),
        lambda p: torch.optim.Adam(p, **ADAM, foreach=False),
    ),
    "adamw": (
        lambda p: Adam(p, 0.01, (0.8, 0.95), 1e-8, 0.1),
        lambda p: torch.optim.AdamW(p, **ADAM, foreach=False),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", AGAINST_TORCH)
def test_a_hundred_steps_equal_those_of_torch(name: str, dtype: torch.dtype) -> None:
    ours, theirs = AGAINST_TORCH[name]
    assert_same_path(ours, theirs, SHAPES, dtype)


def test_adamw_equals_torchs_fused_adamw_bit_for_bit() -> None:
    mine, reference = same_weights(SHAPES)
    ours = Adam(mine, 0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(reference, 0.01, weight_decay=0.1, fused=True)
    for step in range(20):
        slopes = gradients(mine, step)
        give(mine, slopes)
        give(reference, slopes)
        ours.step()
        theirs.step()
    assert all(torch.equal(a, b) for a, b in zip(mine, reference, strict=True))
    for a, b in zip(mine, reference, strict=True):
        assert ours.state[a].keys() == theirs.state[b].keys()  # checkpoints of either fit the other
        assert all(torch.equal(ours.state[a][key], theirs.state[b][key]) for key in ours.state[a])


def test_muon_equals_torchs_where_both_orthogonalise_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.double())
    # Large gradients: the two place the epsilon that guards against a zero gradient differently.
    assert_same_path(
        lambda p: Muon(p, 0.02, 0.95, 0.1, torch.float64),
        lambda p: torch.optim.Muon(p, 0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        [(6, 10), (10, 6), (6, 10), (8, 8)],
        torch.float64,
        scale=1e4,
    )


def test_adafactor_equals_that_of_transformers() -> None:
    reference = pytest.importorskip("transformers.optimization").Adafactor
    usual = {"scale_parameter": True, "relative_step": False, "warmup_init": False}
    assert_same_path(
        lambda p: Adafactor(p, 0.01, weight_decay=0.1),
        lambda p: reference(p, 0.01, weight_decay=0.1, **usual),
        [(6, 10), (10, 6), (7,), (3, 4, 5)],
        torch.float32,
    )


def rms(x: np.ndarray) -> float:
    return math.sqrt((x * x).mean())


def test_adafactor_by_its_paper() -> None:
    """Algorithm 4 of arXiv 1804.04235 for one matrix, with sums as the paper has them."""
    mine, _ = same_weights([(6, 10)], torch.float64)
    w = mine[0].detach().numpy().copy()
    rows, columns = np.zeros((6, 1)), np.zeros((1, 10))
    optimizer = Adafactor(mine, 0.02)
    for n in range(1, STEPS + 1):
        slopes = gradients(mine, n)
        give(mine, slopes)
        optimizer.step()
        g = slopes[0].numpy()
        beta = 1 - n**-0.8
        rows = beta * rows + (1 - beta) * (g * g + 1e-30).sum(axis=1, keepdims=True)
        columns = beta * columns + (1 - beta) * (g * g + 1e-30).sum(axis=0, keepdims=True)
        u = g / np.sqrt(rows * columns / rows.sum())
        w = w - 0.02 * max(1e-3, rms(w)) * u / max(1.0, rms(u))
        assert np.abs(mine[0].detach().numpy() - w).max() < 1e-10


def test_lion_by_its_paper() -> None:
    mine, _ = same_weights(SHAPES, torch.float64)
    expected = [p.detach().numpy().copy() for p in mine]
    momenta = [np.zeros_like(w) for w in expected]
    optimizer = Lion(mine, 0.003, (0.9, 0.98), weight_decay=0.5)
    for step in range(STEPS):
        slopes = gradients(mine, step)
        give(mine, slopes)
        optimizer.step()
        for i, g in enumerate(s.numpy() for s in slopes):
            update = np.sign(0.9 * momenta[i] + 0.1 * g)
            momenta[i] = 0.98 * momenta[i] + 0.02 * g
            expected[i] = expected[i] - 0.003 * (update + 0.5 * expected[i])
            assert np.abs(mine[i].detach().numpy() - expected[i]).max() < 1e-10


def test_muon_by_its_description() -> None:
    """Momentum, Nesterov, five quintic Newton-Schulz iterations on one matrix at a time."""
    shapes = [(6, 10), (10, 6), (6, 10)]
    mine, _ = same_weights(shapes, torch.float64)
    expected = [p.detach().numpy().copy() for p in mine]
    momenta = [np.zeros_like(w) for w in expected]
    optimizer = Muon(mine, 0.02, 0.9, 0.1, torch.float64)
    for step in range(STEPS):
        slopes = gradients(mine, step)
        give(mine, slopes)
        optimizer.step()
        for i, g in enumerate(s.numpy() for s in slopes):
            momenta[i] = 0.9 * momenta[i] + 0.1 * g
            x = 0.1 * g + 0.9 * momenta[i]
            x = x / (np.linalg.norm(x) + 1e-7)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            expected[i] = (1 - 0.02 * 0.1) * expected[i] - 0.02 * 0.2 * math.sqrt(10) * x
            assert np.abs(mine[i].detach().numpy() - expected[i]).max() < 1e-8


EVERY: dict[str, Callable[[list], Optimizer]] = {
    "sgd": SGD,
    "rmsprop": lambda p: RMSprop(p, momentum=0.9),
    "adam": lambda p: Adam(p, decay="coupled"),
    "adamw": lambda p: Adam(p, weight_decay=0.1),
    "lion": Lion,
    "adafactor": Adafactor,
    "muon": Muon,
}


@pytest.mark.parametrize("name", EVERY)
def test_state_goes_out_as_tensors_and_comes_back(name: str) -> None:
    shapes = [(6, 10), (6, 10), (4, 3)] if name == "muon" else SHAPES
    mine, other = same_weights(shapes)
    first, second = Joint([EVERY[name](mine)]), Joint([EVERY[name](other)])
    for step in range(3):
        give(mine, gradients(mine, step))
        first.step(0.5)
    with torch.no_grad():
        for a, b in zip(mine, other, strict=True):
            b.copy_(a)
    saved = {key: value.clone() for key, value in first.tensors().items()}
    second.restore(saved)
    for step in range(3, 6):
        slopes = gradients(mine, step)
        give(mine, slopes)
        give(other, slopes)
        first.step(0.5)
        second.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
    assert first.tensors().keys() == second.tensors().keys() == saved.keys()
    assert any(not torch.equal(saved[key], value) for key, value in second.tensors().items())  # copied


@pytest.mark.parametrize("name", EVERY)
def test_a_state_made_ahead_changes_nothing_and_a_missing_gradient_leaves_alone(name: str) -> None:
    shapes = [(6, 10), (6, 10), (4, 3)]
    mine, other = same_weights(shapes)
    before = [p.detach().clone() for p in mine]
    ahead, late = Joint([EVERY[name](mine)]), Joint([EVERY[name](other)])
    ahead.prepare()
    assert len(ahead.tensors()) > 0 and late.tensors() == {}
    for step in range(3):
        slopes = gradients(mine, step)
        give(mine[:2], slopes[:2])
        give(other[:2], slopes[:2])
        ahead.step(1.0)
        late.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
    assert torch.equal(mine[2], before[2]) and not torch.equal(mine[0], before[0])
