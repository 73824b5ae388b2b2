"""Advantages against statistics written out, and the promises about groups that teach nothing."""

from __future__ import annotations

import statistics

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.align.advantages import centred, standardised

rewards = st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=5)


@settings(deadline=None)
@given(rewards)
def test_against_the_definition(table: list[list[float]]) -> None:
    group_centred, group_standardised = centred(torch.tensor(table)), standardised(torch.tensor(table))
    for row, values in enumerate(table):
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        expected = torch.tensor([value - mean for value in values])
        torch.testing.assert_close(group_centred[row], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            group_standardised[row], expected / (deviation + 1e-4), rtol=1e-2, atol=1e-2
        )


@settings(deadline=None)
@given(st.floats(0, 1, width=32), st.integers(1, 9))
def test_equal_rewards_teach_exactly_nothing(reward: float, size: int) -> None:
    assert (centred(torch.full((2, size), reward)) == 0).all()
    assert (standardised(torch.full((2, size), reward)) == 0).all()


def test_an_answer_without_a_score_takes_no_part() -> None:
    nan = float("nan")
    with_gap = centred(torch.tensor([[1.0, 0.0, nan], [nan, nan, nan]]))
    assert with_gap.tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]
    plain = standardised(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(standardised(torch.tensor([[1.0, 0.0, nan]]))[:, :2], plain)
