"""Random numbers of samples: the same in any company, and as random as they should be."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ingot.data import permutation
from ingot.objectives.keyed import mix, uniform


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_mixing_is_that_of_the_permutations(numbers: list[int]) -> None:
    ours = mix(torch.tensor(numbers, dtype=torch.int64)).numpy().view(np.uint64)
    theirs = permutation.mix(np.array(numbers, dtype=np.int64).view(np.uint64))
    assert np.array_equal(ours, theirs)


def test_mixing_is_the_published_one() -> None:
    """The first outputs of SplitMix64 started at 1234567 (Vigna's splitmix64.c, from Rosetta Code)."""
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + golden * count) % 2**64 for count in (1, 2, 3)]
    mixed = mix(torch.tensor([s - 2**64 if s >= 2**63 else s for s in states]))
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [number % 2**64 for number in mixed.tolist()] == expected


@settings(deadline=None)
@given(
    ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=8),
    seed=st.integers(0, 2**63),
    data=st.data(),
)
def test_a_sample_gets_the_same_in_any_company(ids: list[int], seed: int, data: st.DataObject) -> None:
    together = uniform(seed, torch.tensor(ids), "mask", [3, 5])
    assert together.shape == (len(ids), 3, 5)
    row = data.draw(st.integers(0, len(ids) - 1))
    assert torch.equal(uniform(seed, torch.tensor(ids[row : row + 1]), "mask", [3, 5])[0], together[row])


def test_numbers_are_uniform_and_independent() -> None:
    drawn = uniform(0, torch.arange(500), "mask", [400])
    assert drawn.dtype == torch.float32 and drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    others = [
        uniform(1, torch.arange(500), "mask", [400]),
        uniform(0, torch.arange(500), "fate", [400]),
        uniform(0, torch.arange(1, 501), "mask", [400]),
        drawn.roll(1, 1),
    ]
    for other in others:
        correlation = np.corrcoef(drawn.flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(drawn.numel())


def test_numbers_do_not_change_with_the_release() -> None:
    drawn = uniform(1, torch.tensor([7]), "mask", [3])
    assert (drawn * 2**24).long().tolist() == EXPECTED


EXPECTED = [[11687413, 2018054, 14247120]]
