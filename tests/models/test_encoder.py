"""The encoder by itself: what its masks hide, how it pools, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ingot.errors import ConfigError
from ingot.models.encoder import Encoder, EncoderConfig
from ingot.models.heads import HeadConfig, pool

SIZES: dict[str, Any] = {
    "vocabulary": 50,
    "width": 16,
    "layers": 3,
    "heads": 2,
    "feed_forward": 24,
    "context": 40,
}
MODERN: dict[str, Any] = {
    "norm": "pre",
    "biases": False,
    "activation": "geglu",
    "positions": "rotary",
    "segments": None,
    "norm_epsilon": 1e-5,
}


def built(**changes: Any) -> Encoder:
    model = EncoderConfig(**{**SIZES, **changes}).build(3)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("parts", [{}, {**MODERN, "window": 3, "whole_every": 2}])
@torch.no_grad()
def test_padding_changes_nothing(parts: dict[str, Any]) -> None:
    model = built(padding=0, **parts)
    text = torch.randint(1, 50, (2, 9))
    padded = torch.cat([text, torch.zeros(2, 20, dtype=torch.long)], 1)
    alone, beside = model(text).hidden, model(padded).hidden
    assert torch.allclose(alone, beside[:, :9], atol=1e-5)
    assert bool(beside.isfinite().all())
    assert torch.equal(model(padded, padded != 0).hidden, beside)


@torch.no_grad()
def test_a_local_layer_reaches_as_far_as_its_window() -> None:
    """One whole layer first would see everything, so all layers are local here: three reach 3 * 2 far."""
    model = built(**MODERN, window=2, whole_every=100)
    model.blocks[0].attention.output.weight.zero_()  # layer 0 is whole whatever the period
    text = torch.randint(0, 50, (1, 30))
    other = text.clone()
    other[0, 15] = (other[0, 15] + 1) % 50
    moved = (model(text).hidden - model(other).hidden).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(15 - 4, 15 + 5))


@torch.no_grad()
def test_tokens_see_both_sides() -> None:
    model = built()
    text = torch.randint(0, 50, (1, 12))
    other = text.clone()
    other[0, 6] = (other[0, 6] + 1) % 50
    assert bool(((model(text).hidden - model(other).hidden).abs().amax(-1) > 1e-6).all())


def test_pooling() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    assert torch.equal(pool(hidden, mask, "first"), hidden[:, 0])
    assert torch.allclose(pool(hidden, mask, "mean")[0], hidden[0, :2].mean(0))
    assert not pool(hidden, mask, "mean")[1].any()
    assert torch.allclose(pool(hidden, None, "mean"), hidden.mean(1))


def test_dropout_is_off_outside_training() -> None:
    model = built(dropout=0.5, head=HeadConfig(task="sequence", dropout=0.5, transform="tanh"))
    text = torch.randint(0, 50, (2, 12))
    assert torch.equal(model(text).logits, model(text).logits)
    model.train()
    assert not torch.equal(model(text).hidden, model(text).hidden)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, "multiple of heads"),
        ({"padding": 50}, "outside the vocabulary"),
        ({"count_tokens": True}, "needs the padding token"),
        ({"head": {"task": "sequence", "labels": 3, "names": ["a"]}}, "1 names for 3 labels"),
        ({"widht": 3}, "did you mean 'width'"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EncoderConfig.parse({**SIZES, **changes})
