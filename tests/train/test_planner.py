"""The planner's arithmetic, and that more time never makes it choose less."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import ResourceError
from ingot.models.decoder import DecoderConfig
from ingot.models.families.presets import config_of
from ingot.train.law import BESIROGLU
from ingot.train.planner import (
    MOST_EPOCHS,
    TUNED_AT,
    active_parameters,
    batch_tokens,
    expected_loss,
    matrix_parameters,
    parameter_count,
    propose,
    propose_for_text,
    rate_factor,
    shape,
    training_flops_per_token,
)

GIVEN = {"unique": 2_500_000, "vocabulary": 4096, "context": 512, "tokens_per_step": 8192}
TEXT = {"vocabulary": 4096, "context": 512}


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 8])
def test_counts_equal_the_model_s_own(depth: int) -> None:
    config = shape(depth, vocabulary=512, context=64)
    model = config.build()
    embedding_and_norms = model.parameter_count() - matrix_parameters(config)
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert embedding_and_norms == norms + 512 * config.width
    assert training_flops_per_token(config) > 6 * matrix_parameters(config)
    assert config.width % 32 == 0 and config.feed_forward % 32 == 0
    assert parameter_count(config) == model.parameter_count()


@pytest.mark.parametrize(
    "other",
    [
        {"tied": True},
        {"activation": "squared_relu"},
        {"norm": "layer", "head_norm": None, "positions": "learned", "activation": "gelu", "tied": True},
    ],
)
def test_counts_hold_for_other_parts_too(other: dict[str, object]) -> None:
    config = DecoderConfig.parse(shape(3, vocabulary=512, context=64).plain() | other)
    assert parameter_count(config) == config.build().parameter_count()


def test_more_minutes_never_choose_a_smaller_model() -> None:
    chosen = [propose(seconds=60 * m, flops=5e11, **GIVEN) for m in (1, 3, 7, 20, 60, 240)]
    sizes = [matrix_parameters(p.model) for p in chosen]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert [p.expected for p in chosen] == sorted((p.expected for p in chosen), reverse=True)


def test_the_default_demo_keeps_its_size() -> None:
    """403 seconds of 12 minutes at the rate of two AMX cores: docs/experiments.md says why 3 layers."""
    for rate in (4.5e11, 5.5e11, 7e11):
        assert propose(seconds=403, flops=rate, **GIVEN).model.layers == 3


def test_the_user_s_depth_is_kept() -> None:
    assert propose(seconds=60, flops=5e11, depth=3, **GIVEN).model.layers == 3
    assert propose_for_text(seconds=60, flops=5e11, unique=10**7, depth=3, **TEXT).model.layers == 3


def test_too_few_minutes_are_refused_with_the_number() -> None:
    with pytest.raises(ResourceError, match="minutes are too few"):
        propose(seconds=1, flops=1e9, **GIVEN)


def test_repeated_tokens_count_less_than_new_ones() -> None:
    assert expected_loss(1e7, 1e8, 1e8) < expected_loss(1e7, 1e8, 1e7) < expected_loss(1e7, 1e7, 1e7)


def test_where_text_is_plenty_both_ways_agree_with_the_law() -> None:
    flops, seconds = 3.5e14, 8 * 3600.0
    chosen = propose_for_text(seconds=seconds, flops=flops, unique=10**12, law=BESIROGLU, **TEXT)
    parameters, tokens = BESIROGLU.optimum(flops * seconds)
    assert matrix_parameters(chosen.model) == pytest.approx(parameters, rel=0.5)  # the ladder has gaps
    assert chosen.tokens == pytest.approx(tokens, rel=0.5)


@given(st.floats(1e12, 1e16), st.floats(60, 1e6), st.integers(10**5, 10**8))
@settings(max_examples=30, deadline=None)
def test_a_small_text_is_never_given_more_than_it_can_repay(
    flops: float, seconds: float, unique: int
) -> None:
    chosen = propose_for_text(seconds=seconds, flops=flops, unique=unique, law=BESIROGLU, **TEXT)
    assert chosen.tokens <= MOST_EPOCHS * unique
    assert chosen.tokens * training_flops_per_token(chosen.model) <= flops * seconds * (1 + 1e-9)
    more_text = propose_for_text(seconds=seconds, flops=flops, unique=30 * unique, law=BESIROGLU, **TEXT)
    assert matrix_parameters(chosen.model) <= matrix_parameters(more_text.model)
    assert more_text.expected <= chosen.expected * 1.006


def test_batch_and_rates_follow_the_published_powers() -> None:
    assert batch_tokens(1e17) == pytest.approx(0.2920 * 10 ** (17 * 0.3271))
    assert batch_tokens(1e20) / batch_tokens(1e19) == pytest.approx(10**0.3271)
    assert batch_tokens(TUNED_AT) == pytest.approx(16 * 512, rel=1)  # within a factor of two of what we use
    assert rate_factor(TUNED_AT / 100) == rate_factor(TUNED_AT) == 1.0
    assert rate_factor(TUNED_AT * 2**8) == pytest.approx(0.5)


def test_of_experts_only_the_chosen_cost_a_token() -> None:
    config = config_of("mixtral-8x7b")
    assert parameter_count(config) == 46_702_792_704
    # Jiang et al. 2024, arXiv 2401.04088, section 2: 13B active parameters, embedding counted.
    assert active_parameters(config) + config.vocabulary * config.width == pytest.approx(12.9e9, rel=0.01)
    dense = config_of("llama-7b")
    assert active_parameters(dense) == matrix_parameters(dense)
