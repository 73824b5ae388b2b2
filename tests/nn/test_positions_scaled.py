"""Stretched rotary positions against `transformers`' functions; waves, slopes and partial turns by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from ingot.models.decoder import DecoderConfig
from ingot.nn.positions import Alibi, Rotary, Sinusoidal, rotate
from ingot.nn.rope_scaling import RopeScaling, longer_theta

NAMES = {
    "original_context": "original_max_position_embeddings",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "fast": "beta_fast",
    "slow": "beta_slow",
    "attention": "attention_factor",
    "mscale_all": "mscale_all_dim",
    "short": "short_factor",
    "long": "long_factor",
}


def check(scaling: RopeScaling, width: int, theta: float, context: int = 512) -> None:
    said = {NAMES.get(key, key): value for key, value in scaling.plain().items() if value is not None}
    said |= {"rope_type": said.pop("kind"), "rope_theta": theta}
    config = LlamaConfig(
        hidden_size=4 * width, num_attention_heads=4, max_position_embeddings=context, rope_parameters=said
    )
    frequency, temperature = ROPE_INIT_FUNCTIONS[scaling.kind](config, "cpu", seq_len=8)
    angle = torch.outer(torch.arange(40.0), frequency)
    rotary = Rotary(width, theta, 40, scaling)
    for table, wave in ((rotary.cosine, torch.cos), (rotary.sine, torch.sin)):
        assert (table - torch.cat([wave(angle)] * 2, -1) * temperature).abs().max() < 2e-5


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["linear", "dynamic", "yarn", "llama3"]),
    width=st.sampled_from([4, 16, 64, 128]),
    theta=st.sampled_from([1e4, 5e5, 1e6]),
    factor=st.floats(1, 64),
    original=st.sampled_from([16, 128, 8192]),
)
def test_frequencies_are_theirs(kind: Any, width: int, theta: float, factor: float, original: int) -> None:
    more: dict[str, Any] = {"low": 1.0, "high": 4.0} if kind == "llama3" else {}
    if kind in ("llama3", "yarn"):
        more["original_context"] = original
    check(RopeScaling(kind=kind, factor=factor, **more), width, theta)


@pytest.mark.parametrize(
    "more",
    [
        {"attention": 1.3},
        {"fast": 16.0, "slow": 2.0},
        {"truncate": False},
        {"mscale": 0.7, "mscale_all": 1.0},
        {"mscale": 1.0},
    ],
)
def test_yarn_in_all_its_forms(more: dict[str, Any]) -> None:
    check(RopeScaling(kind="yarn", factor=8.0, original_context=64, **more), 32, 1e4)


def test_longrope_takes_the_short_row_up_to_its_first_context() -> None:
    row = tuple(1 + i / 4 for i in range(8))
    scaling = RopeScaling(kind="longrope", factor=8.0, original_context=64, short=row, long=(9.0,) * 8)
    check(scaling, 16, 1e4)
    with pytest.raises(ValueError, match="8 factors for 16"):
        Rotary(32, 1e4, 8, scaling)


def test_what_a_kind_needs_is_asked_for() -> None:
    for keys in (
        {"kind": "yarn"},
        {"kind": "llama3", "original_context": 8, "low": 1.0},
        {"kind": "longrope"},
    ):
        with pytest.raises(ValidationError, match="needs"):
            RopeScaling.model_validate(keys)
    with pytest.raises(ValidationError, match="must differ"):
        RopeScaling(kind="llama3", original_context=8, low=2.0, high=2.0)


@settings(deadline=None)
@given(factor=st.floats(1, 100), width=st.sampled_from([4, 64, 128]))
def test_a_longer_base_stretches_the_slowest_wave_only(factor: float, width: int) -> None:
    """The last frequency is divided by the factor, the first stays 1 (the static form of dynamic NTK)."""
    longer = longer_theta(1e4, factor, width)
    last = (width - 2) / width
    assert longer**-last == pytest.approx(1e4**-last / factor)
    config = LlamaConfig(
        hidden_size=width,
        num_attention_heads=1,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": factor},
    )
    reach = 64 if factor == 1 else 64 * (2 * factor - 1) / factor  # where its own factor becomes ours
    frequency, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, "cpu", seq_len=reach)
    ours = longer ** -(torch.arange(0, width, 2) / width)
    assert torch.allclose(frequency, ours, rtol=1e-4)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 32, 71])
def test_slopes_are_bloom_s(heads: int) -> None:
    theirs = build_alibi_tensor(torch.ones(1, 5), heads, torch.float32)[:, 0]
    assert torch.allclose(Alibi(heads).slopes[:, None] * torch.arange(5.0), theirs, rtol=1e-6)


def test_eight_heads_have_the_paper_s_slopes() -> None:
    assert Alibi(8).slopes.tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_tables_stay_exact_in_bfloat16() -> None:
    for part, name in ((Alibi(12), "slopes"), (Rotary(8, 1e4, 9), "cosine")):
        before = part.get_buffer(name).clone()
        assert torch.equal(part.to(torch.bfloat16).get_buffer(name), before)
        assert not part.state_dict()


def test_waves_by_hand() -> None:
    table = Sinusoidal(6, 10)(torch.tensor([[0, 7]]))[0]
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]
    wanted = [wave(7 / 10_000 ** (2 * i / 6)) for i in range(3) for wave in (math.sin, math.cos)]
    assert table[1].tolist() == pytest.approx(wanted, abs=1e-6)


def test_only_some_coordinates_turn() -> None:
    rotary, x = Rotary(4, 1e4, 8), torch.randn(2, 8, 3, 10)
    turned = rotate(x, rotary.angles(None, 8))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert torch.equal(turned[..., :4], rotate(x[..., :4], rotary.angles(None, 8)))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", None])
def test_places_are_told_as_configured(positions: Any) -> None:
    """Without positions a bag of earlier tokens is all there is: their order says nothing in one layer."""
    sizes = {"vocabulary": 11, "width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "head_width": 8}
    model = DecoderConfig(**sizes, feed_forward=24, context=8, positions=positions).build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        one, other = (model(torch.tensor([order])).logits[0, -1] for order in ([1, 2, 3, 4], [3, 1, 2, 4]))
        assert torch.allclose(one, other, atol=1e-5) == (positions is None)
        if positions is not None:
            shifted = model(torch.tensor([[1, 2]]), positions=torch.tensor([[3, 4]])).logits
            assert not torch.allclose(shifted, model(torch.tensor([[1, 2]])).logits, atol=1e-4)
