"""Decoding speed: tokens per second of one conversation, as a person at the terminal meets it."""

from __future__ import annotations

import statistics
import time

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.models.decoder import Decoder
from ingot.tokenizer.tokenizer import Tokenizer

OPENING = "def read_lines(path):\n    "


def decode_tokens_per_second(
    model: Decoder, tokenizer: Tokenizer, tokens: int = 64, repeats: int = 5
) -> float:
    """Measures greedy decoding of one request; reading the prompt and the first token do not count.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        tokens: to make after the first; fewer where the context is shorter.
        repeats: runs, after one to warm up; the median counts.
    """
    engine = Engine(model, tokenizer, slots=1)
    prompt = [tokenizer.bos_id, *tokenizer.encode(OPENING)][: model.config.context // 2]
    tokens = min(tokens, engine.room(len(prompt)) - 1)
    rates = [_rate(engine, prompt, tokens) for _ in range(repeats + 1)]
    return statistics.median(rates[1:])


def _rate(engine: Engine, prompt: list[int], tokens: int) -> float:
    """Tokens per second of one run; no token stops it."""
    request = engine.submit(prompt, Sampling(max_new_tokens=tokens + 1, temperature=0))
    engine.step()  # reads the prompt and makes the first token
    start = time.perf_counter()
    while request.finish_reason is None:
        engine.step()
    return tokens / (time.perf_counter() - start)
