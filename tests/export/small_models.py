"""A small model and text for tests of exports, all of whose weights do something."""

from __future__ import annotations

from typing import Any

import torch

from ingot.models.decoder import Decoder, DecoderConfig

TEXT = "def low(lower, lowest=12345):\n    return 'the newest and the widest', don't stop: naïve café 東京!\n"
SIZES: dict[str, Any] = {
    "width": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 32,
    "feed_forward": 96,
    "context": 128,
    "rope_theta": 50_000.0,
}


def trained(**changes: Any) -> Decoder:
    """A model whose answers depend on all that it reads."""
    model = DecoderConfig(**(SIZES | {"vocabulary": 320} | changes)).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            size = 0.2 if parameter.dim() > 1 else 0.1
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return model.eval()


def greedy(model: Decoder, prompt: list[int], count: int) -> list[int]:
    """The most probable tokens, one by one, without a cache."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            logits = model(torch.tensor([ids])).logits
            assert logits is not None
            ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]
