"""Numbers and comparisons in words: honest at the edges, and never proud of noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.report import words

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def plain(text: str) -> str:
    return text.replace(words.SPACE, " ").replace(words.MINUS, "-")


@given(difference=FINITE, low=FINITE, high=FINITE, metric=st.sampled_from([*words.METRICS, "other"]))
def test_better_and_worse_are_said_only_outside_the_noise(
    difference: float, low: float, high: float, metric: str
) -> None:
    sentence = words.compared(
        {"from": "a", "to": "b", "metric": metric, "difference": difference, "interval": [low, high]}
    )
    excludes_zero = min(low, high) > 0 or max(low, high) < 0
    directed = "better" in sentence or "worse" in sentence
    assert directed == (excludes_zero and metric in words.METRICS)
    assert ("inside the noise" in sentence) == (not excludes_zero)


def test_the_word_follows_the_direction_of_the_metric() -> None:
    up = {"from": "a", "to": "b", "difference": 0.1, "interval": [0.05, 0.15], "excludes_zero": True}
    assert words.compared({**up, "metric": "success"}).endswith("better.")
    assert words.compared({**up, "metric": "bits_per_byte"}).endswith("worse.")
    down = {**up, "difference": -0.1, "interval": [-0.15, -0.05]}
    assert words.compared({**down, "metric": "bits_per_byte"}).endswith("better.")


def test_a_comparison_that_contradicts_itself_is_taken_for_noise() -> None:
    one = {"from": "a", "to": "b", "metric": "success", "difference": 0.1, "interval": [0.05, 0.15]}
    assert "inside the noise" in words.compared({**one, "excludes_zero": False})
    assert "may be noise" in words.compared({**one, "interval": None, "excludes_zero": True})
    share = {**one, "metric": "bits_per_byte_relative", "difference": 0.0009, "interval": [0.0004, 0.0013]}
    assert "bits per byte +0.09 %" in plain(words.compared(share))
    assert "not compared" in words.compared({"from": "a", "to": "b", "metric": "success"})


def test_a_comparison_reads_like_a_sentence() -> None:
    one = {"from": "base", "to": "finetuned", "metric": "success", "difference": 0.629}
    sentence = words.compared({**one, "interval": [0.575, 0.684], "excludes_zero": True})
    difference = "instruction success +62.9 points (95 % interval +57.5 to +68.4 points): better."
    assert plain(sentence) == f"finetuned against base: {difference}"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.count(0), "0"),
        (words.count(999_000), "999,000"),
        (words.count(6_204_928), "6.2 M"),
        (words.count(999_960_000), "1.0 G"),
        (words.size(512), "512 bytes"),
        (words.size(12_640_000), "12.6 MB"),
        (words.size(123_400_000), "123 MB"),
        (words.minutes(1), "1 second"),
        (words.minutes(99), "99 seconds"),
        (words.minutes(804), "13.4 minutes"),
        (words.minutes(18_720), "5.2 hours"),
        (words.clock(41), "0:41"),
        (words.clock(3725), "1:02:05"),
        (words.percent(0.012), "1.2 %"),
        (words.percent(0.783), "78 %"),
        (words.percent(-0.05), "-5.0 %"),
        (words.span("success", (0.742, 0.821)), "74 to 82 %"),
        (words.span("bits_per_byte", (1.3812, 1.4423)), "1.381 to 1.442"),
        (words.listed(["a"]), "a"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_read_well(said: str, expected: str) -> None:
    assert plain(said) == expected


def test_what_is_no_number_is_none() -> None:
    for value in (None, "1.4", True, math.nan, math.inf, [1], {}):
        assert words.number(value) is None
    assert words.interval([2, 1]) == (1.0, 2.0)
    for value in (None, [1], [1, None], "ab", [1, math.nan]):
        assert words.interval(value) is None
