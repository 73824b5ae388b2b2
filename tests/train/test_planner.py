"""The planner's arithmetic, and that more time never makes it choose less."""

from __future__ import annotations

import pytest

from ingot.errors import ResourceError
from ingot.train.planner import expected_loss, matrix_parameters, propose, shape, training_flops_per_token

GIVEN = {"unique": 2_500_000, "vocabulary": 4096, "context": 512, "tokens_per_step": 8192}


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 8])
def test_counts_equal_the_model_s_own(depth: int) -> None:
    config = shape(depth, vocabulary=512, context=64)
    model = config.build()
    embedding_and_norms = model.parameter_count() - matrix_parameters(config)
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert embedding_and_norms == norms + 512 * config.width
    assert training_flops_per_token(config) > 6 * matrix_parameters(config)
    assert config.width % 32 == 0 and config.feed_forward % 32 == 0


def test_more_minutes_never_choose_a_smaller_model() -> None:
    chosen = [propose(seconds=60 * m, flops=5e11, **GIVEN) for m in (1, 3, 7, 20, 60, 240)]
    sizes = [matrix_parameters(p.model) for p in chosen]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert [p.expected for p in chosen] == sorted((p.expected for p in chosen), reverse=True)


def test_the_user_s_depth_is_kept() -> None:
    assert propose(seconds=60, flops=5e11, depth=3, **GIVEN).model.layers == 3


def test_too_few_minutes_are_refused_with_the_number() -> None:
    with pytest.raises(ResourceError, match="minutes are too few"):
        propose(seconds=1, flops=1e9, **GIVEN)


def test_repeated_tokens_count_less_than_new_ones() -> None:
    assert expected_loss(1e7, 1e8, 1e8) < expected_loss(1e7, 1e8, 1e7) < expected_loss(1e7, 1e7, 1e7)
