"""Row by row alike, with the usual gradient: products in tiles, activations, attention by oneself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ingot.nn.attention import causal
from ingot.nn.invariant import RowTiles, in_whole_vectors, steady_rows, tiled_product
from ingot.nn.invariant_attention import BLOCK, Alone
from ingot.nn.linear import Linear
from ingot.nn.scoring import Scored

CURVES: list[Callable[[Tensor], Tensor]] = [functional.silu, functional.gelu, torch.sigmoid]


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(
    rows=st.integers(1, 40), width=st.integers(1, 70), outputs=st.integers(1, 40),
    first=st.integers(0, 39), count=st.integers(1, 40),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_a_row_is_computed_alike_among_any_others(
    rows: int, width: int, outputs: int, first: int, count: int
) -> None:
    torch.manual_seed(rows)
    layers = nn.Sequential(Linear(width, outputs), nn.SiLU(), nn.Linear(outputs, 5, bias=False), nn.GELU())
    x = numbers(rows, width)
    some = x[first % rows :][:count]
    tile = steady_rows(layers, 8)
    with torch.no_grad(), RowTiles(tile):
        together, apart = layers(x), layers(some)
    assert torch.equal(together[first % rows :][:count], apart)
    torch.testing.assert_close(together, layers(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("curve", CURVES)
@given(count=st.integers(1, 200), first=st.integers(0, 199))
@settings(max_examples=20, deadline=None)
def test_no_number_minds_its_place(curve: Callable[[Tensor], Tensor], count: int, first: int) -> None:
    x = numbers(70_000)
    expected = in_whole_vectors(curve, x)
    assert torch.equal(in_whole_vectors(curve, x[first : first + count]), expected[first : first + count])
    torch.testing.assert_close(expected, curve(x))


def test_the_product_of_our_own_linear_layers_is_made_in_tiles_too() -> None:
    """The operation that trains under bf16 autocast on some processors."""
    x, weight = numbers(37, 20, dtype=torch.bfloat16), numbers(9, 20)
    with torch.autocast("cpu", torch.bfloat16), RowTiles(4):
        whole = torch.ops.ingot.product(x, weight)
        rows = [torch.ops.ingot.product(x[row : row + 1], weight) for row in range(37)]
    assert whole.dtype == torch.bfloat16
    assert torch.equal(whole, tiled_product(x, weight.bfloat16(), rows=4))
    torch.testing.assert_close(torch.cat(rows), whole, rtol=0.02, atol=0.02)


def test_gradients_are_those_of_what_is_computed() -> None:
    x, weight, bias = (numbers(*s, dtype=torch.float64).requires_grad_() for s in ((2, 5, 3), (4, 3), (4,)))
    assert torch.autograd.gradcheck(lambda *given: tiled_product(*given, rows=4), (x, weight, bias))

    def curves(x: Tensor) -> Tensor:
        with RowTiles(4):
            return functional.silu(x) * torch.sigmoid(x) + functional.gelu(x, approximate="tanh")

    assert torch.autograd.gradcheck(curves, (x,))


@pytest.mark.parametrize(
    "scored",
    [None, Scored(window=3), Scored(cap=2.0), Scored(slopes=torch.tensor([0.5, 0.1])), Scored(window=4)],
)
def test_gradients_of_attention_are_those_of_what_is_computed(scored: Scored | None) -> None:
    query = numbers(2, 2, 6, 4, seed=1, dtype=torch.float64).requires_grad_()
    key = numbers(2, 1, 6, 4, seed=2, dtype=torch.float64).requires_grad_()
    value = numbers(2, 1, 6, 2, seed=3, dtype=torch.float64).requires_grad_()
    if scored is not None and scored.slopes is not None:
        scored = scored._replace(slopes=scored.slopes.double())
    made = Alone(4)(0, query, key, value, scored)
    torch.testing.assert_close(made, causal(0, query, key, value, scored), rtol=1e-5, atol=1e-6)
    if scored is None or scored.cap is None:  # a cap's usual path has its softmax in float32
        assert torch.autograd.gradcheck(lambda q, k, v: Alone(4)(0, q, k, v, scored), (query, key, value))


def test_sinks_learn() -> None:
    query, key = numbers(1, 2, 9, 4, seed=1), numbers(1, 2, 9, 4, seed=2)
    found: list[Tensor] = []
    for attend in (causal, Alone(4)):
        sinks = torch.tensor([0.3, -0.2], requires_grad=True)
        mixed = attend(0, query, key, key, Scored(sinks=sinks))
        found += torch.autograd.grad(mixed.square().sum(), sinks)
    assert found[0].abs().min() > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t", [1, 7, BLOCK, 2 * BLOCK + 3])
def test_a_token_attends_alike_whatever_follows(t: int) -> None:
    query, key = numbers(1, 4, t + 9, 8, seed=1), numbers(1, 2, t + 9, 8, seed=2)
    attend = Alone(8)
    whole = attend(0, query, key, key)
    assert torch.equal(attend(0, query[:, :, :t], key[:, :, :t], key[:, :, :t]), whole[:, :, :t])
    torch.testing.assert_close(whole, causal(0, query, key, key), rtol=1e-4, atol=1e-5)
