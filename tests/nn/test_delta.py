"""The gated delta rule by chunks is the one by steps; documents are islands; state is carried over."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d, pad

from ingot.errors import ConfigError
from ingot.nn.attention import document_starts
from ingot.nn.delta import DeltaConfig, GatedDelta, by_chunks, start, step_by_step, unit
from ingot.nn.short_convolution import ShortConvolution

SIZES = DeltaConfig(key_heads=2, value_heads=4, key_width=6, value_width=5)
WIDTH = 12


def parts(t: int, heads: int = 2, shared: int = 2, seed: int = 0, dtype: Any = torch.float32) -> list[Tensor]:
    """What a layer gives to the rule, and a memory; some tokens forget nearly all."""
    random = torch.Generator().manual_seed(seed)
    b, e, w = 2, 8, 6

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    fading = -(torch.rand(b, t, heads * shared, generator=random, dtype=torch.float64) ** 4) * 8
    made = (
        unit(draw(b, t, heads, e)),
        unit(draw(b, t, heads, e)),
        draw(b, t, heads * shared, w),
        fading,
        draw(b, t, heads * shared).sigmoid(),
        draw(b, heads * shared, e, w),
    )
    return [one.to(dtype) for one in made]


def far(one: Tensor, other: Tensor) -> float:
    return float((one.detach().double() - other.detach().double()).abs().max())


def test_steps_are_the_written_out_rule() -> None:
    query, key, value, fading, strength, memory = parts(5, dtype=torch.float64)
    read, after = step_by_step(query, key, value, fading, strength, memory)
    for row in range(2):
        for head in range(4):
            s = memory[row, head]
            for t in range(5):
                k, q, b = key[row, t, head // 2], query[row, t, head // 2], strength[row, t, head]
                identity = torch.eye(len(k), dtype=torch.float64)
                s = fading[row, t, head].exp() * (identity - b * torch.outer(k, k)) @ s
                s = s + b * torch.outer(k, value[row, t, head])
                assert far(s.T @ q, read[row, t, head]) <= 1e-12
            assert far(s, after[row, head]) <= 1e-12


@settings(max_examples=60, deadline=None)
@given(
    t=st.integers(1, 90),
    chunk=st.integers(1, 70),
    heads=st.integers(1, 3),
    shared=st.integers(1, 2),
    seed=st.integers(0, 999),
    fresh=st.booleans(),
)
def test_chunks_are_steps(t: int, chunk: int, heads: int, shared: int, seed: int, fresh: bool) -> None:
    *given, memory = parts(t, heads, shared, seed)
    before = None if fresh else memory
    read, after = by_chunks(*given, before, chunk=chunk)
    expected, last = step_by_step(*given, before)
    assert far(read, expected) <= 1e-5 and far(after, last) <= 1e-5


@pytest.mark.parametrize(("t", "chunk"), [(1, 64), (37, 16), (64, 64), (130, 64)])
def test_gradients_are_equal(t: int, chunk: int) -> None:
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        made = [one.requires_grad_() for one in parts(t, dtype=dtype)]
        random = torch.Generator().manual_seed(1)
        weights = [torch.randn(one.shape, generator=random, dtype=dtype) for one in step_by_step(*made)]
        gradients = []
        for way in (step_by_step(*made), by_chunks(*made, chunk=chunk)):
            total = sum((one * weight).sum() for one, weight in zip(way, weights, strict=True))
            gradients.append(torch.autograd.grad(total, made))
        for one, other in zip(*gradients, strict=True):
            assert far(one, other) <= tolerance * max(1.0, float(other.abs().max()))


def test_a_gradient_is_the_slope() -> None:
    made = [one[:1].requires_grad_() for one in parts(7, 1, 2, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *given: by_chunks(*given, chunk=4), made)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), chunk=st.integers(1, 40))
def test_documents_are_islands(lengths: list[int], chunk: int) -> None:
    t = sum(lengths)
    *given, _ = parts(t)
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(2, -1)
    read, after = by_chunks(*given, starts=document_starts(numbers), chunk=chunk)
    at = 0
    for length in lengths:
        alone, last = step_by_step(*(one[:, at : at + length] for one in given))
        assert far(read[:, at : at + length], alone) <= 1e-5
        at += length
    assert far(after, last) <= 1e-5


def test_what_fades_wholly_is_forgotten_without_a_nan() -> None:
    query, key, value, fading, strength, memory = (one.requires_grad_() for one in parts(20))
    with torch.no_grad():
        fading[:, 7] = -1e4
    read, after = by_chunks(query, key, value, fading, strength, memory, chunk=16)
    fresh, _ = by_chunks(*(one[:, 7:] for one in (query, key, value, fading, strength)), chunk=16)
    assert far(read[:, 7:], fresh) <= 1e-5
    (read.sum() + after.sum()).backward()
    assert all(bool(one.grad.isfinite().all()) for one in (query, key, value, fading, strength))


def test_the_memory_returns_what_was_last_written_to_a_key() -> None:
    """With full strength and no fading, a key's value replaces the older one, and others stay."""
    keys = torch.eye(4)[[0, 1, 0, 2]][None, :, None]
    values = torch.arange(12.0).view(1, 4, 1, 3)
    nothing, full = torch.zeros(1, 4, 1), torch.ones(1, 4, 1)
    _, memory = by_chunks(keys, keys, values, nothing, full)
    assert torch.allclose(memory[0, 0, :3], values[0, [2, 1, 3], 0])


def test_bf16_goes_in_and_out_but_is_not_summed_in() -> None:
    *given, memory = parts(100)
    narrow = [one.bfloat16() for one in given]
    with torch.autocast("cpu", torch.bfloat16):
        read, after = by_chunks(*narrow, memory)
    exact, last = step_by_step(*(one.float() for one in narrow), memory)
    assert read.dtype == torch.bfloat16 and after.dtype == torch.float32
    assert far(after, last) <= 1e-5 and far(read, exact) <= 2**-8 * float(exact.abs().max())


@pytest.mark.parametrize("taps", [1, 2, 4])
def test_the_convolution_is_the_padded_one(taps: int) -> None:
    torch.manual_seed(0)
    layer, x = ShortConvolution(5, taps), torch.randn(2, 9, 5)
    y, tail = layer(x)
    expected = conv1d(pad(x.mT, (taps - 1, 0)), layer.weight, groups=5).mT
    assert far(y, expected) <= 1e-6
    assert torch.equal(tail, x[:, 10 - taps :])
    first, between = layer(x[:, :2])
    steps = [first]
    for place in range(2, 9):
        one, between = layer(x[:, place : place + 1], between)
        steps.append(one)
    assert far(torch.cat(steps, 1), expected) <= 1e-6
    documents = torch.tensor([[0] * 9, [0, 0, 1, 2, 2, 2, 2, 2, 3]])
    masked, _ = layer(x, starts=document_starts(documents))
    alone = torch.cat([layer(x[1:, a:b])[0] for a, b in ((0, 2), (2, 3), (3, 8), (8, 9))], 1)
    assert far(masked, torch.cat([expected[:1], alone])) <= 1e-6


def test_a_layer_goes_on_where_it_was() -> None:
    layer, x = GatedDelta(WIDTH, SIZES), torch.randn(2, 80, WIDTH, generator=torch.Generator().manual_seed(2))
    whole, last = layer(x)
    for cuts in ((0, 3, 4, 5, 70, 80), tuple(range(81))):
        state, pieces = None, []
        for a, b in itertools.pairwise(cuts):
            piece, state = layer(x[:, a:b], state)
            pieces.append(piece)
        assert far(torch.cat(pieces, 1), whole) <= 1e-5
        assert far(state.memory, last.memory) <= 1e-5
        assert all(far(*pair) <= 1e-6 for pair in zip(state.tails, last.tails, strict=True))
        assert [one.untyped_storage().nbytes() for one in state.tails] == [
            4 * one.numel() for one in state.tails
        ]


def test_first_values_are_those_of_the_seed_and_remember_between_ten_and_a_thousand_tokens() -> None:
    sizes = DeltaConfig(key_heads=64, value_heads=64, key_width=2, value_width=2)
    one, two = GatedDelta(WIDTH, sizes), GatedDelta(WIDTH, sizes)
    start(one, torch.Generator().manual_seed(5))
    start(two, torch.Generator().manual_seed(5))
    assert torch.equal(one.rate, two.rate) and torch.equal(
        one.key_convolution.weight, two.key_convolution.weight
    )
    tokens = 1 / (one.rate.exp() * torch.nn.functional.softplus(one.decay_bias))
    tokens = tokens.detach()
    assert 0.6 < float(tokens.min()) < 3 and 100 < float(tokens.max()) < 1001
    assert all(bool(p.isfinite().all()) for p in one.parameters())


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"value_heads \(3\) must be a multiple of key_heads \(2\)"):
        DeltaConfig.parse({"key_heads": 2, "value_heads": 3, "key_width": 4, "value_width": 4})
