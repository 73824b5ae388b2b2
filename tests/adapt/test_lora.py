"""The low-rank product over a flat pass, against the dense weights of each token's own adapter."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.adapt.lora import LowRank, add, places_of, scale

CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None)
@given(
    segments=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 5)), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
)
def test_each_token_gets_its_own_change(segments: list[tuple[int, int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    changes = [
        LowRank(torch.randn(r, 6, generator=generator), torch.randn(5, r, generator=generator))
        for r in (1, 2, 3, 4)
    ]
    starts = [0]
    for _, length in segments:
        starts.append(starts[-1] + length)
    x = torch.randn(starts[-1], 6, generator=generator)
    y = torch.zeros(starts[-1], 5)
    places = places_of([owner for owner, _ in segments], starts, CPU)
    add(y, x, [(changes[owner], where) for owner, where in places.items()])
    owners = [owner for owner, length in segments for _ in range(length)]
    for row, owner in enumerate(owners):
        expected = torch.zeros(5) if owner < 0 else changes[owner].dense() @ x[row]
        torch.testing.assert_close(y[row], expected, atol=1e-4, rtol=1e-4)


def test_neighbours_are_a_slice() -> None:
    assert places_of([4, 4, -1, 7], [0, 2, 3, 9, 10], CPU) == {4: slice(0, 3), 7: slice(9, 10)}
    apart = places_of([4, -1, 4], [0, 2, 3, 5], CPU)[4]
    assert apart.tolist() == [0, 1, 3, 4]  # type: ignore[union-attr]


def test_scale_is_by_the_rank_or_its_root() -> None:
    assert scale(8, 16, stable=False) == 0.5
    assert scale(8, 16, stable=True) == 2.0
