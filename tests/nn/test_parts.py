"""The parts against PyTorch's own layers and against sums written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ingot.nn.attention import Attention, causal
from ingot.nn.feed_forward import FeedForward, GatedFeedForward, squared_relu
from ingot.nn.initialisation import initialise
from ingot.nn.norms import RMSNorm
from ingot.nn.positions import Rotary, rotate


def test_rms_norm_is_pytorch_s() -> None:
    ours, theirs = RMSNorm(24, 1e-6), nn.RMSNorm(24, 1e-6)
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        theirs.weight.copy_(ours.weight)
    x = torch.randn(3, 5, 24) * 100
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert ours(x.bfloat16()).dtype == torch.bfloat16


def test_swiglu_by_hand() -> None:
    layer = GatedFeedForward(8, 12, nn.functional.silu)
    x = torch.randn(2, 8)
    gate, up = x @ layer.gate.weight.T, x @ layer.up.weight.T
    assert torch.allclose(layer(x), (gate / (1 + torch.exp(-gate)) * up) @ layer.down.weight.T, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(near=st.integers(0, 40), far=st.integers(0, 40), shift=st.integers(0, 20))
def test_rotated_products_depend_on_the_distance_only(near: int, far: int, shift: int) -> None:
    rotary = Rotary(16, 10_000.0, 64)
    generator = torch.Generator().manual_seed(near * 41 + far)
    query, key = (torch.randn(1, 1, 1, 16, generator=generator) for _ in range(2))

    def product(a: int, b: int) -> Tensor:
        return (
            rotate(query, rotary.angles(torch.tensor([a]), 1))
            * rotate(key, rotary.angles(torch.tensor([b]), 1))
        ).sum()

    assert float(product(near, far)) == pytest.approx(float(product(near + shift, far + shift)), abs=1e-4)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
def test_attention_is_the_double_sum(heads: int, kv_heads: int) -> None:
    """Written out: every query head with its shared key-value head, every token with those before it."""
    layer = Attention(
        width=16, heads=heads, kv_heads=kv_heads, head_width=8, query_norm=None, key_norm=None
    ).double()
    rotary = Rotary(8, 10_000.0, 16)
    angles = rotary.angles(None, 6)
    x = torch.randn(2, 6, 16, dtype=torch.float64)

    query = rotate(layer.query(x).view(2, 6, heads, 8), angles)
    key = rotate(layer.key(x).view(2, 6, kv_heads, 8), angles)
    value = layer.value(x).view(2, 6, kv_heads, 8)
    mixed = torch.zeros(2, 6, heads, 8, dtype=torch.float64)
    for row in range(2):
        for head in range(heads):
            shared = head // (heads // kv_heads)
            for token in range(6):
                scores = torch.stack(
                    [query[row, token, head] @ key[row, past, shared] for past in range(token + 1)]
                )
                weights = torch.softmax(scores / math.sqrt(8), 0)
                mixed[row, token, head] = weights @ value[row, : token + 1, shared]
    expected = mixed.reshape(2, 6, -1) @ layer.output.weight.T
    assert torch.allclose(layer(x, angles, 0, causal), expected, atol=1e-6)


def test_impossible_heads_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"heads \(4\).*kv_heads \(3\)"):
        Attention(width=16, heads=4, kv_heads=3, head_width=4, query_norm=None, key_norm=None)


def test_initialisation_keeps_sizes_and_zeroes_what_it_is_told() -> None:
    model = nn.ModuleDict({"a": nn.Linear(400, 300), "b": nn.Linear(300, 50), "e": nn.Embedding(100, 64)})
    initialise(model, 0, zero=("b",))
    assert float(model["a"].weight.detach().std()) == pytest.approx(400**-0.5, rel=0.02)
    assert float(model["a"].bias.detach().abs().max()) == 0
    assert float(model["b"].weight.detach().abs().max()) == 0
    assert float(model["e"].weight.detach().std()) == pytest.approx(1, rel=0.05)


def test_squared_relu_layer_by_hand() -> None:
    layer = FeedForward(8, 12, squared_relu)
    x = torch.randn(2, 8)
    inner = (x @ layer.up.weight.T).clamp(min=0)
    assert torch.allclose(layer(x), (inner * inner) @ layer.down.weight.T, atol=1e-6)


def test_rotation_tables_are_the_rounded_truth_wherever_they_lie() -> None:
    """MKL's float32 cosine is a bit off here and there, differently at other addresses."""
    rotary = Rotary(128, 10_000.0, 512)
    frequency = 10_000.0 ** -(torch.arange(0, 128, 2, dtype=torch.float32) / 128)
    angle = torch.outer(torch.arange(512, dtype=torch.float32), frequency).double().numpy()
    assert np.array_equal(rotary.cosine[:, :64].numpy(), np.cos(angle).astype(np.float32))
    assert np.array_equal(rotary.sine[:, 64:].numpy(), np.sin(angle).astype(np.float32))
