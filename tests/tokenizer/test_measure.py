"""Measures against their definitions, written out for small cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from ingot.errors import DataError
from ingot.tokenizer.measure import characters_costs, measure, parallel_costs, premiums, renyi_efficiency


class ByLetter:
    """Encodes a character as its code point, modulo 16."""

    vocab_size = 16

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 16 for character in text]


def test_a_fit_counts_bytes_tokens_words_and_ids() -> None:
    fit = measure(ByLetter(), ["ab a", "", "é"])
    assert (fit.bytes, fit.tokens, fit.used, fit.words) == (6, 5, 4, 3)
    assert fit.bytes_per_token == 6 / 5
    assert fit.fertility == 5 / 3
    assert fit.usage == 4 / 16
    assert fit.frequencies == (2, 1, 1, 1)
    assert fit.renyi_efficiency == renyi_efficiency([2, 1, 1, 1], 16)
    empty = measure(ByLetter(), [])
    assert (empty.bytes_per_token, empty.fertility, empty.renyi_efficiency) == (0.0, 0.0, 0.0)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=20))
def test_renyi_efficiency_follows_its_definition(counts: list[int]) -> None:
    size = len(counts) + 3
    shares = np.array(counts) / sum(counts)
    expected = math.log((shares**2.5).sum()) / (1 - 2.5) / math.log(size)
    assert renyi_efficiency(counts, size) == pytest.approx(expected, abs=1e-12)
    assert renyi_efficiency(counts, size, order=1) == pytest.approx(entropy(counts) / math.log(size))
    near_one = renyi_efficiency(counts, size, order=1 + 1e-6)
    assert near_one == pytest.approx(renyi_efficiency(counts, size, order=1), abs=1e-4)
    assert renyi_efficiency([7] * size, size) == pytest.approx(1.0)
    assert renyi_efficiency(counts, size) <= 1.0 + 1e-12


def test_premiums_are_ratios_to_the_base() -> None:
    costs = {f"language {i}": float(i) for i in range(1, 12)}
    found = premiums(costs, base="language 2")
    values = [i / 2 for i in range(1, 12)]
    assert list(found.by_language.values()) == values
    assert (found.median, found.max) == (3.0, 5.5)
    assert found.p90 == pytest.approx(np.percentile(values, 90))
    assert found.spread == 11.0
    assert premiums(costs).base == "language 1"


def test_costs_are_tokens_per_sentence_and_per_character() -> None:
    texts = {"a": ["abc", "d"], "b": ["abcde", "fghij"]}
    assert parallel_costs(ByLetter(), texts) == {"a": 2.0, "b": 5.0}
    assert characters_costs(ByLetter(), texts) == {"a": 1.0, "b": 1.0}


def test_texts_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="different numbers of sentences"):
        parallel_costs(ByLetter(), {"a": ["x"], "b": ["x", "y"]})
    with pytest.raises(DataError, match="no text of 'c'"):
        premiums({"a": 1.0}, base="c")
    for wrong in ({}, {"a": 0.0}):
        with pytest.raises(DataError, match="must be positive"):
            premiums(wrong)
