"""Bits per byte against a slow loop, a uniform model, and the rule for windows; xz against the command."""

from __future__ import annotations

import functools
import math
import shutil
import subprocess

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ingot.evaluate import bits_per_byte
from ingot.evaluate.baselines import xz_bits_per_byte
from ingot.evaluate.bits_per_byte import measure_bits, places, windows
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.progress import Task


class Bytes:
    """A tokenizer of single bytes; BOS is 256."""

    bos_id = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))


def small(context: int = 16) -> Decoder:
    model = DecoderConfig(
        vocabulary=257,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=8,
        feed_forward=48,
        context=context,
    ).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


TEXTS = ["a", "", "hello", "x" * 15, "y" * 16, "z" * 17, "naïve ☃ text " * 4, "def f(x):\n    return x\n" * 2]


@given(st.integers(0, 300), st.integers(2, 33))
def test_every_token_is_scored_once_after_half_a_context(length: int, context: int) -> None:
    scored = []
    for start, stop, first in windows(length, context):
        assert 0 < stop - start <= context
        for target in range(first, stop + 1):
            before = target - start  # tokens that the model sees before this one
            assert before >= min(target, (context + 1) // 2)
            scored.append(target)
    assert scored == list(range(1, length))


@functools.cache
def slow(context: int) -> list[float]:
    """Nats of each text, one token at a time, each with the tokens that its window gives it."""
    model = small(context)
    found = []
    for text in TEXTS:
        tokens, nats = [256, *text.encode("utf-8")], 0.0
        for target in range(1, len(tokens)):
            over = max(0, target - context)
            start = -(-over // (context // 2)) * (context // 2)
            with torch.no_grad():
                logits = model(torch.tensor([tokens[start:target]])).logits[0, -1].double()
            nats += float(logits.logsumexp(0) - logits[tokens[target]])
        found.append(nats)
    return found


@pytest.mark.parametrize("context", [16, 17])
@pytest.mark.parametrize("budget", [16, 100, 10_000])
def test_batches_give_what_the_slow_loop_gives(
    monkeypatch: pytest.MonkeyPatch, context: int, budget: int
) -> None:
    monkeypatch.setattr(bits_per_byte, "PLACES", budget)
    monkeypatch.setattr(bits_per_byte, "_LOGITS", 7)
    model = small(context)
    bits = measure_bits(model, Bytes(), TEXTS)
    assert bits.nats == pytest.approx(slow(context), rel=1e-5)
    assert bits.bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert bits.tokens == sum(bits.bytes)
    total = sum(len(text.encode()) for text in TEXTS)
    assert bits.bits_per_byte == pytest.approx(bits.nats.sum() / math.log(2) / total)


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary() -> None:
    model = small()
    torch.nn.init.zeros_(model.head.weight)
    bits = measure_bits(model, Bytes(), TEXTS)
    assert bits.bits_per_byte == pytest.approx(math.log2(257), rel=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    model = small()
    with torch.no_grad():
        model.head.weight.mul_(1e6)
    assert all(math.isfinite(nats) for nats in measure_bits(model, Bytes(), TEXTS).nats)


def test_the_future_does_not_matter() -> None:
    model = small()
    one, two = (measure_bits(model, Bytes(), [text]).nats[0] for text in ("hello", "hello!"))
    tokens = torch.tensor([[256, *b"hello!"]])
    with torch.no_grad():
        last = -model(tokens).logits[0, -2].log_softmax(0)[ord("!")]
    assert two - one == pytest.approx(float(last), rel=1e-5)


def test_progress_adds_up() -> None:
    class Counting(Task):
        done = 0.0

        def advance(self, amount: float = 1, numbers: str = "") -> None:
            self.done += amount

    task = Counting()
    measure_bits(small(), Bytes(), TEXTS, task)
    assert task.done == places(Bytes(), TEXTS, 16)


def test_bf16_weights_change_little() -> None:
    model = small()
    full = measure_bits(model, Bytes(), TEXTS).bits_per_byte
    low = measure_bits(model.bfloat16(), Bytes(), TEXTS).bits_per_byte
    assert low == pytest.approx(full, rel=0.01)
    assert low != full


class Shifted(Decoder):
    """Logits that say the next byte is the last one plus one, with certainty."""

    def forward(self, tokens: Tensor, *args: object, **kwargs: object):  # type: ignore[no-untyped-def,override]
        outputs = super().forward(tokens, *args, **kwargs)  # type: ignore[arg-type]
        return outputs._replace(hidden=torch.nn.functional.one_hot((tokens + 1) % 257, 257).float() * 100)


def test_targets_are_the_next_tokens() -> None:
    model = Shifted(small().config)
    model.head = torch.nn.Identity()  # type: ignore[assignment]
    bits = measure_bits(model, Bytes(), ["".join(map(chr, range(100)))])
    assert bits.bits_per_byte < 1e-6


def test_xz_is_what_the_command_gives() -> None:
    texts = ["naïve ☃ " * 50, "def f(x):\n    return x\n" * 200, "".join(map(chr, range(32, 1000)))]
    data = "".join(texts).encode()
    ours = xz_bits_per_byte(texts) * len(data) / 8
    assert ours == int(ours)
    if shutil.which("xz") is None:
        pytest.skip("xz is not installed")
    theirs = subprocess.run(["xz", "-9e", "-c"], input=data, capture_output=True, check=True).stdout
    assert abs(ours - len(theirs)) <= 64  # newer xz writes sizes into its block header
