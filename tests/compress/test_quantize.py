"""int8 layers: bounded rounding error, the same result on every path, and models that hardly change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from ingot.compress import quantized
from ingot.compress.quantize import dequantized, is_quantized, quantize
from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear, quantize_rows
from ingot.models.decoder import Decoder, DecoderConfig

SIZES = {
    "vocabulary": 300,
    "width": 48,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 12,
    "feed_forward": 100,
    "context": 32,
}


def trained(tied: bool = False) -> Decoder:
    """A model all of whose weights do something (fresh ones are zero in places)."""
    model = DecoderConfig(**SIZES, tied=tied).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.floats(1e-6, 1e4), st.integers(0, 2**31))
def test_rounding_moves_no_weight_by_more_than_half_a_step(o: int, i: int, size: float, seed: int) -> None:
    weight = torch.randn(o, i, generator=torch.Generator().manual_seed(seed)) * size
    rounded, scale = quantize_rows(weight)
    assert rounded.dtype == torch.int8
    assert int(rounded.min()) >= -127
    assert torch.equal(scale, scale.bfloat16().float())
    # Rounding the scale to bf16 may cut the largest weight by another quarter of a step.
    assert ((rounded * scale[:, None] - weight).abs() <= 0.76 * scale[:, None]).all()
    assert ((rounded * scale[:, None] - weight).abs().mean(1) <= 0.5 * scale).all()


def test_a_row_of_zeros_stays_zero() -> None:
    rounded, scale = quantize_rows(torch.zeros(2, 5))
    assert not (rounded * scale[:, None]).any()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("rows", [1, 3, quantized.MOST_ROWS, quantized.MOST_ROWS + 1, 40])
@pytest.mark.parametrize(("o", "i"), [(96, 64), (33, 7), (1, 96), (300, 129)])
def test_linear_is_the_dense_product(rows: int, o: int, i: int) -> None:
    torch.manual_seed(0)
    layer = QuantizedLinear(*quantize_rows(torch.randn(o, i)))
    x = torch.randn(2, rows, i)[:1]
    torch.testing.assert_close(layer(x), linear(x, layer.dense()), atol=1e-4, rtol=1e-4)
    low = QuantizedLinear(layer.weight, layer.scale.bfloat16())
    expected = linear(x.bfloat16().float(), layer.dense())
    torch.testing.assert_close(low(x.bfloat16()).float(), expected, atol=0.02 * i**0.5, rtol=0.01)


def test_the_kernel_gets_no_rows_that_it_would_read_past(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    monkeypatch.setattr(
        quantized, "_int8_kernel", lambda x, w, s: lengths.append(x.shape[1]) or linear(x, w.bfloat16())
    )
    for length in range(8, 100):
        weight, scale = quantize_rows(torch.randn(5, length))
        QuantizedLinear(weight, scale.bfloat16())(torch.randn(1, length).bfloat16())
    assert lengths == [32, 64, 96]


def test_without_the_kernel_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight, scale = quantize_rows(torch.randn(64, 32))
    layer, x = QuantizedLinear(weight, scale.bfloat16()), torch.randn(2, 32).bfloat16()
    fast = layer(x).float()
    monkeypatch.setattr(quantized, "_int8_kernel", None)
    torch.testing.assert_close(fast, layer(x).float(), atol=0.05, rtol=0.01)


def test_embedding_looks_up_dense_rows() -> None:
    layer = QuantizedEmbedding(*quantize_rows(torch.randn(20, 6)))
    tokens = torch.randint(0, 20, (3, 4))
    assert torch.equal(layer(tokens), layer.dense()[tokens])


@pytest.mark.parametrize("tied", [False, True])
def test_a_quantized_model_is_its_dequantized_one(tied: bool) -> None:
    model = trained(tied)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = quantize(model)
    dense = dequantized(small)
    tokens = torch.randint(0, 300, (2, 20))
    with torch.no_grad():
        assert (small(tokens).logits - dense(tokens).logits).abs().max() < 1e-5
        assert (dense(tokens).logits - model(tokens).logits).abs().max() < 0.2
        low, full = quantize(model.bfloat16())(tokens).logits.float(), dense(tokens).logits
    assert (low - full).abs().max() < 0.15
    assert is_quantized(small)
    assert not is_quantized(dense)
    assert not is_quantized(model)
    assert all(torch.equal(model.float().state_dict()[n].bfloat16(), v.bfloat16()) for n, v in before.items())
    assert (dense.head.weight is dense.embedding.weight) == tied


def test_quantizing_twice_changes_nothing() -> None:
    once = quantize(trained())
    twice = quantize(dequantized(once))
    for (name, first), second in zip(once.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.allclose(first.float(), second.float(), rtol=1e-2, atol=1.1), name


def test_weights_that_lie_anywhere_in_memory_do_not_kill_the_process() -> None:
    """The int8 kernel loads aligned; weights of a mapped file are not."""
    weight, scale = quantize_rows(torch.randn(64, 128, generator=torch.Generator().manual_seed(0)))
    room = torch.empty(64 * 128 + 64, dtype=torch.int8)
    for offset in range(1, 17):
        moved = room[offset : offset + 64 * 128].view(64, 128)
        moved.copy_(weight)
        layer = QuantizedLinear(moved, scale.bfloat16())
        x = torch.ones(2, 129, dtype=torch.bfloat16).view(-1)[1:257].view(2, 128)
        assert layer(x).shape == (2, 64)
        layer.weight = moved  # as loading with assign=True would put it
        assert layer(x).shape == (2, 64)
