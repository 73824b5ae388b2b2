"""Scaling laws: planted constants come back, published ones say what their papers say, real runs obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import DataError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.train.law import (
    BESIROGLU,
    HOFFMANN,
    Law,
    Measured,
    counted_parameters,
    counted_tokens,
    fit,
)
from ingot.train.step import Accumulate, loss_function

SIZES = np.geomspace(1e4, 1e8, 7)
TOKENS = np.geomspace(1e5, 1e10, 6)


def planted(law: Law, noise: float, seed: int = 0) -> list[Measured]:
    chance = np.random.default_rng(seed)
    return [Measured(n, d, law.loss(n, d) * math.exp(noise * chance.normal())) for n in SIZES for d in TOKENS]


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU, Law(0.9, 30.0, 80.0, 0.3, 0.33)])
def test_planted_constants_come_back(law: Law) -> None:
    found = fit(planted(law, 0.0)).law
    assert np.allclose(found, law, rtol=1e-3)
    noisy = fit(planted(law, 0.003)).law
    assert np.allclose(noisy[3:], law[3:], atol=0.01)
    assert noisy.loss(1e9, 2e10) == pytest.approx(law.loss(1e9, 2e10), rel=0.01)


def test_one_broken_run_does_not_bend_the_law() -> None:
    runs = planted(BESIROGLU, 0.001)
    runs[5] = runs[5]._replace(loss=3 * runs[5].loss)
    assert fit(runs).law.loss(1e9, 2e10) == pytest.approx(BESIROGLU.loss(1e9, 2e10), rel=0.005)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    law, inside = HOFFMANN, 0
    for seed in range(20):
        runs = planted(law, 0.01, seed)[::2]
        low, high = fit(runs, resamples=40, seed=seed).interval(3e8, 6e9, share=0.9)
        run = law.loss(3e8, 6e9) * math.exp(0.01 * np.random.default_rng(100 + seed).normal())
        inside += low <= run <= high
    assert inside >= 15


def test_published_laws_say_what_their_papers_say() -> None:
    parameters, tokens = BESIROGLU.optimum(5.76e23)  # Chinchilla's budget; its rule: 20 tokens per weight
    assert tokens / parameters == pytest.approx(20, rel=0.1)
    assert parameters == pytest.approx(70e9, rel=0.1)  # and the model that was trained with it
    parameters, tokens = HOFFMANN.optimum(5.76e23)  # table A3's approach 3 asks for a smaller model
    assert parameters == pytest.approx(32e9, rel=0.05)
    at = {flops: np.divide(*HOFFMANN.optimum(flops)[::-1]) for flops in (7.6e16, 1e18)}
    assert at[7.6e16] == pytest.approx(20, rel=0.01)
    assert at[1e18] == pytest.approx(np.divide(*BESIROGLU.optimum(1e18)[::-1]), rel=0.01)  # the laws meet


@given(st.floats(1e15, 1e25), st.sampled_from([HOFFMANN, BESIROGLU]), st.floats(0.5, 2.0))
@settings(max_examples=50, deadline=None)
def test_the_optimum_spends_the_budget_and_nothing_near_it_is_better(
    flops: float, law: Law, other: float
) -> None:
    parameters, tokens = law.optimum(flops)
    assert 6 * parameters * tokens == pytest.approx(flops, rel=1e-9)
    assert law.loss(parameters, tokens) <= law.loss(parameters * other, tokens / other) + 1e-12
    assert law.suited(tokens) == pytest.approx(parameters, rel=1e-6)


def test_repeats_and_excess_weights_count_less_and_less() -> None:
    assert counted_tokens(5e6, 1e7) == 5e6
    assert counted_tokens(4e7, 1e7) == pytest.approx(
        3.7e7, rel=0.02
    )  # Muennighoff: four epochs are nearly new
    assert counted_tokens(1e12, 1e7) == pytest.approx(16.39e7, rel=1e-3)
    suited = BESIROGLU.suited(1e9)
    assert counted_parameters(suited / 2, 1e9, BESIROGLU) == suited / 2
    assert counted_parameters(1e15, 1e9, BESIROGLU) == pytest.approx(6.31 * suited, rel=1e-3)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        (planted(HOFFMANN, 0)[:5], "5 runs are too few"),
        ([Measured(1e6, d, 3.0) for d in TOKENS], "same number of parameters"),
        ([Measured(n, 1e6, 3.0) for n in SIZES], "same number of tokens"),
        ([*planted(HOFFMANN, 0)[:8], Measured(1e6, 1e6, math.nan)], "not above zero"),
    ],
)
def test_runs_that_determine_no_law_are_refused(runs: list[Measured], words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit(runs)
    with pytest.raises(DataError, match="no interval"):
        fit(planted(HOFFMANN, 0)).interval(1e9, 1e9)


VOCABULARY, CONTEXT, ROWS = 128, 32, 32
LAGS = (1, 2, 3, 5, 8)


def language(rows: int, seed: int) -> torch.Tensor:
    """Draws from a random language with a memory of eight tokens and a few frequent words."""
    fixed, chance = np.random.default_rng(0), np.random.default_rng(seed + 1)
    pull = {lag: fixed.normal(size=(VOCABULARY, VOCABULARY)) * 1.4 / lag**0.5 for lag in LAGS}
    frequency = -np.log(np.arange(1, VOCABULARY + 1))
    text = chance.integers(0, VOCABULARY, (rows, CONTEXT + 17))
    for place in range(max(LAGS), text.shape[1]):
        score = frequency + sum(pull[lag][text[:, place - lag]] for lag in LAGS)
        text[:, place] = (score + chance.gumbel(size=score.shape)).argmax(1)
    return torch.from_numpy(text[:, 16:])


def batch(text: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"inputs": text[:, :-1].contiguous(), "targets": text[:, 1:].contiguous()}


def train(width: int, layers: int, tokens: int) -> Measured:
    """Trains a decoder on fresh text and returns its loss on text that it never saw."""
    heads = max(1, width // 32)
    model = DecoderConfig(
        vocabulary=VOCABULARY, width=width, layers=layers, heads=heads, kv_heads=1, context=CONTEXT,
        head_width=min(width, 32), feed_forward=width * 8 // 3 // 16 * 16,
    ).build(0)  # fmt: skip
    steps = tokens // (ROWS * CONTEXT)
    text = language(steps * ROWS, 1)
    forward = loss_function(model, CausalLM(), torch.float32, False, "cpu")
    program = Accumulate(CausalLM(), forward, OptimizerConfig().build(model), None, 1.0)
    for step, part in enumerate(text.split(ROWS)):
        program.update(batch(part), min(1, (step + 1) / 10, (steps - step) / (0.7 * steps)))
    model.eval()
    held = batch(language(512, 2))
    with torch.no_grad():
        loss = float(CausalLM().loss(model, held).sum) / CausalLM().weight(held)
    return Measured(model.parameter_count() - VOCABULARY * width, tokens, loss)


@pytest.mark.slow
def test_small_models_predict_one_three_times_as_large() -> None:
    torch.set_num_threads(1)
    sizes = ((24, 1), (32, 1), (48, 2), (64, 2), (128, 2))
    runs = [train(*size, tokens) for size in sizes for tokens in (2**16, 2**17, 2**18)]
    largest = train(192, 3, 2**18)
    assert runs[0].parameters >= 1e4 and largest.parameters > 2.5 * runs[-1].parameters
    found = fit(runs, resamples=50)
    predicted = found.law.loss(largest.parameters, largest.tokens)
    low, high = found.interval(largest.parameters, largest.tokens)
    print(f"predicted {predicted:.4f} ({low:.4f} to {high:.4f}), measured {largest.loss:.4f}, {found.law}")
    assert predicted == pytest.approx(largest.loss, rel=0.03)
    assert low <= largest.loss <= high
