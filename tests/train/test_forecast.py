"""Forecasts: they meet the runs they rest on, and never pretend to know what was not measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.train.forecast import OWN, OWN_RUNS, forecast, prediction
from ingot.train.law import BESIROGLU
from ingot.train.planner import shape


def test_our_law_meets_every_run_of_ours() -> None:
    for run in OWN_RUNS:
        assert OWN.loss(run.parameters, run.tokens) == pytest.approx(run.loss, rel=0.05)


def test_the_measured_demos_are_inside_their_range() -> None:
    """Four runs of the default demo: docs/planning.md."""
    said = forecast(1_966_080, 11.9e6, 2_375_446)
    assert all(said.low < bits < said.high for bits in (1.165, 1.190, 1.201, 1.216))
    assert said.high / said.low < 1.25


def test_between_what_was_measured_the_blend_stays_between() -> None:
    """A small model never falls to the published law, which was fitted on large ones, however many tokens."""
    ours = forecast(5e5, 1e8, 1e8)
    assert "carried further" in ours.basis and ours.bits_per_byte < forecast(5e5, 3e7, 3e7).bits_per_byte
    ladder = [forecast(3e8, tokens, tokens) for tokens in (2e7, 1e8, 1e9, 4e9, 6e9)]
    assert [one.basis[:7] for one in ladder] == ["our own", "between", "between", "between", "the law"]
    assert all(one.low > 0.75 and one.high < 1.4 for one in ladder)


def test_large_runs_follow_the_published_law() -> None:
    said = forecast(70e9, 1.4e12, 1.4e12)
    assert said.nats_per_token(4.48)[0] == pytest.approx(BESIROGLU.loss(70e9, 1.4e12))
    assert said.low < said.bits_per_byte < said.high and "Besiroglu" in said.basis


@given(st.floats(5e5, 1e10), st.floats(2e5, 1e12))
@settings(max_examples=100, deadline=None)
def test_more_is_never_worse_and_the_range_holds_the_value(parameters: float, tokens: float) -> None:
    here = forecast(parameters, tokens, tokens)
    assert here.low < here.bits_per_byte < here.high
    for more in (
        forecast(1.1 * parameters, tokens, tokens),
        forecast(parameters, 1.1 * tokens, 1.1 * tokens),
    ):
        assert more.bits_per_byte < here.bits_per_byte or "between" in here.basis + more.basis
    unknown = forecast(parameters, tokens, tokens, own_text=True)
    assert unknown.high / unknown.low >= here.high / here.low - 1e-9


def test_a_prediction_speaks_the_units_of_the_log() -> None:
    said = prediction(
        shape(3, 4096, 512), tokens=12_000_000, seconds=400.0, unique=2_400_000, own_text=False,
        bytes_per_token=3.64, memory=10**9,
    )  # fmt: skip
    assert said["tokens_per_second"] == 30_000.0
    ratio = said["validation"]["value"] / said["bits_per_byte"]["value"]
    assert ratio == pytest.approx(3.64 * math.log(2), rel=1e-3)
    silent = prediction(
        shape(1, 256, 64),
        tokens=1000,
        seconds=1.0,
        unique=1000,
        own_text=True,
        bytes_per_token=None,
        memory=1,
    )
    assert "validation" not in silent
