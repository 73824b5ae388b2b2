"""A tiny model with random weights and a tokenizer whose tokens split characters."""

import pytest
import torch

from ingot.inference.engine import Engine
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.tokenizer import Tokenizer

TEXT = "def add(a, b):\n    return a + b\n\nGrüße, naïve café: 日本語 👩‍🚀\n" * 20


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT], vocabulary=340)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Decoder:
    """Random weights everywhere: freshly built models start as the identity, which would test little."""
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=48,
        layers=3,
        heads=6,
        kv_heads=2,
        head_width=12,
        feed_forward=96,
        context=160,
    )
    built = config.build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return built.eval()


@pytest.fixture
def engine(model: Decoder, tokenizer: Tokenizer) -> Engine:
    return Engine(model, tokenizer, slots=4)
