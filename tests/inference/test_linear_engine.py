"""Requests to linear-time decoders, many at once: each gets what the model's whole forward pass gives it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingot.errors import ArtifactError, RequestError
from ingot.inference.choosing.grammar import Grammar
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Request
from ingot.inference.rows import row_engine
from ingot.inference.rows.linear import LinearHeld, linear_engine
from ingot.inference.rows.row_engine import RowEngine
from ingot.models.linear_config import FullAttentionConfig, LinearDecoderConfig
from ingot.models.linear_decoder import LinearDecoder
from ingot.nn.delta import DeltaConfig
from ingot.tokenizer import Tokenizer

GREEDY = {"temperature": 0.0}
DELTA = DeltaConfig(key_heads=2, value_heads=4, key_width=8, value_width=6)
ATTENTION = {
    "only states": None,
    "every second attends": FullAttentionConfig(every=2, heads=4, kv_heads=2, head_width=8),
}


def build(attention: FullAttentionConfig | None, vocabulary: int) -> LinearDecoder:
    """Random weights everywhere, so that states matter."""
    config = LinearDecoderConfig(
        vocabulary=vocabulary,
        width=32,
        layers=4,
        feed_forward=48,
        context=150,
        delta=DELTA,
        attention=attention,
    )
    model = config.build(1)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3, generator=random)
    return model.eval()


@pytest.fixture(scope="module", params=ATTENTION)
def model(request: Any, tokenizer: Tokenizer) -> LinearDecoder:
    return build(ATTENTION[request.param], tokenizer.vocab_size)


@torch.no_grad()
def alone(model: LinearDecoder, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """The likeliest tokens by whole passes over everything, and their logprobs."""
    ids, logprobs = list(prompt), []
    for _ in range(count):
        logits = model(torch.tensor([ids])).logits
        assert logits is not None
        chances = logits[0, -1].log_softmax(-1)
        ids.append(int(chances.argmax()))
        logprobs.append(float(chances.max()))
    return ids[len(prompt) :], logprobs


def prompts(lengths: list[int], vocabulary: int) -> list[list[int]]:
    random = torch.Generator().manual_seed(5)
    return [torch.randint(0, vocabulary, (length,), generator=random).tolist() for length in lengths]


def test_many_at_once_get_what_whole_passes_give(
    model: LinearDecoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_engine, "READ_AT_ONCE", 48)  # prompts are read in several pieces
    given = prompts([1, 7, 40, 2, 90, 33, 33, 5], tokenizer.vocab_size)
    counts = [12, 3, 9, 20, 6, 1, 15, 8]
    engine = linear_engine(model, tokenizer, slots=3)
    settings = [Sampling(max_new_tokens=count, **GREEDY) for count in counts]
    made = engine.generate(given, settings)
    for prompt, count, completion in zip(given, counts, made, strict=True):
        tokens, logprobs = alone(model, prompt, count)
        assert completion.tokens == tokens
        assert completion.logprobs == pytest.approx(logprobs, abs=2e-4)
        assert completion.finish_reason == "length" and completion.seconds > 0
    assert not engine.active and not engine.waiting


def test_equal_prompts_are_read_once_and_seeds_decide(model: LinearDecoder, tokenizer: Tokenizer) -> None:
    engine = linear_engine(model, tokenizer)
    read: list[int] = []
    begin = engine.held.begin
    engine.held.begin = lambda different, notes: (read.append(len(different)), begin(different, notes))[1]  # type: ignore
    prompt = prompts([20], tokenizer.vocab_size)[0]
    seeds = [Sampling(max_new_tokens=8, temperature=1.0, seed=seed) for seed in (1, 2, 1, 3)]
    together = [one.tokens for one in engine.generate([prompt] * 4, seeds)]
    assert read == [1]
    assert together[0] == together[2] and together[0] != together[1]
    assert [engine.generate([prompt], one)[0].tokens for one in seeds] == together


@torch.no_grad()
def test_what_is_asked_about_tokens_is_what_whole_passes_say(
    model: LinearDecoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_engine, "READ_AT_ONCE", 30)
    monkeypatch.setattr("ingot.inference.rows.linear.SCORED_AT_ONCE", 7)
    prompt = prompts([25], tokenizer.vocab_size)[0]
    engine = linear_engine(model, tokenizer)
    asked = Sampling(max_new_tokens=3, temperature=0, top_logprobs=2, prompt_logprobs=True)
    other = Sampling(max_new_tokens=3, temperature=0)
    told, silent = engine.generate([prompt, prompt], [asked, other])
    logits = model(torch.tensor([prompt + told.tokens])).logits
    assert logits is not None
    chances = logits[0].log_softmax(-1)
    right = [float(chances[place, token]) for place, token in enumerate(prompt[1:])]
    assert told.prompt_logprobs[0] is None
    assert told.prompt_logprobs[1:] == pytest.approx(right, abs=2e-4)
    best = chances.topk(2)
    for place in range(24):
        found = told.prompt_alternatives[place + 1]
        assert [token for token, _ in found] == best.indices[place].tolist()
    for place, found in enumerate(told.alternatives, start=24):
        assert [token for token, _ in found] == best.indices[place].tolist()
        assert [one for _, one in found] == pytest.approx(best.values[place].tolist(), abs=2e-4)
    assert silent.prompt_logprobs == [] and silent.alternatives == [[], [], []]
    with pytest.raises(RequestError, match="no token 99999"):
        engine.submit(prompt, Sampling(logit_bias={99999: 1.0}))


def test_penalties_and_grammars_lead_these_models_too(tokenizer: Tokenizer) -> None:
    engine = linear_engine(build(None, tokenizer.vocab_size), tokenizer)
    plain, never = (
        engine.generate([[1, 2]], Sampling(max_new_tokens=30, temperature=0, frequency_penalty=penalty))[0]
        for penalty in (0.0, 2.0)
    )
    assert len(set(never.tokens)) > len(set(plain.tokens))
    pytest.importorskip("llguidance")
    asked = Sampling(grammar=Grammar(kind="choice", text='["add", "return"]'), temperature=1.0, seed=1)
    assert engine.generate([[1, 2]], asked)[0].text in ("add", "return")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("sxc"), st.integers(1, 60), st.integers(1, 9)), max_size=25))
def test_whatever_comes_and_goes_answers_are_the_same(
    model: LinearDecoder, tokenizer: Tokenizer, events: list[tuple[str, int, int]]
) -> None:
    engine = linear_engine(model, tokenizer, slots=3)
    asked: list[Request] = []
    for kind, length, count in events:
        if kind == "s":
            prompt = prompts([length], tokenizer.vocab_size)[0]
            asked.append(engine.submit(prompt, Sampling(max_new_tokens=count, **GREEDY), priority=length % 3))
        elif kind == "x":
            engine.step()
        elif asked:
            engine.cancel(asked[length % len(asked)])
        assert len(engine.active) <= 3
    while engine.active or engine.waiting:
        engine.step()
    for request in asked:
        assert request.finish_reason in ("length", "cancelled")
        tokens, _ = alone(model, request.prompt, len(request.tokens))
        assert request.tokens == tokens
        if request.finish_reason == "length":
            assert len(request.tokens) == request.limit


def test_the_face_is_the_engines(model: LinearDecoder, tokenizer: Tokenizer) -> None:
    engine = linear_engine(model, tokenizer, slots=2)
    assert engine.context == 150
    with pytest.raises(RequestError, match="no tokens"):
        engine.submit([])
    with pytest.raises(RequestError, match=r"150 tokens.*150"):
        engine.submit([1] * 150)
    with pytest.raises(RequestError, match="no adapter 'low'"):
        engine.submit([1], adapter="low")
    with pytest.raises(RequestError, match="slots is 0"):
        RowEngine(LinearHeld(model), tokenizer, slots=0)
    assert engine.submit([1] * 149).limit == 1
    engine.reset()
    pieces = list(engine.stream([1, 2, 3], Sampling(max_new_tokens=6, **GREEDY)))
    tokens, _ = alone(model, [1, 2, 3], 6)
    assert "".join(pieces) == engine.generate([[1, 2, 3]], Sampling(max_new_tokens=6, **GREEDY))[0].text
    stopped = engine.generate([[1, 2, 3]], Sampling(max_new_tokens=6, **GREEDY), stop_ids=[tokens[2]])[0]
    first = tokens.index(tokens[2])
    assert stopped.finish_reason == "stop" and stopped.tokens == tokens[: first + 1]


def test_lower_priorities_go_first(tokenizer: Tokenizer) -> None:
    engine = linear_engine(build(None, tokenizer.vocab_size), tokenizer, slots=1)
    one = Sampling(max_new_tokens=1, **GREEDY)
    asked = [engine.submit([number], one, priority=priority) for number, priority in enumerate((2, 0, 2, 1))]
    order: list[int] = []
    while engine.active or engine.waiting:
        order += [asked.index(request) for request in engine.step()]
    assert order == [1, 3, 0, 2]


def test_nothing_is_read_for_those_who_left(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_engine, "READ_AT_ONCE", 16)
    engine = linear_engine(build(None, tokenizer.vocab_size), tokenizer, slots=2)
    one = Sampling(max_new_tokens=3, **GREEDY)
    gone, left = engine.submit([3] * 140, one), engine.submit([3] * 140, one)
    assert engine.step() == [] and engine.usage().running == 2
    engine.cancel(gone)
    assert engine.active == [left] and engine.step() == []
    engine.cancel(left)
    assert not engine.active and engine.usage().running == 0
    made = engine.generate([[5, 6]], one)[0]
    assert made.tokens == alone(engine.held.model, [5, 6], 3)[0]  # type: ignore[attr-defined]
    assert engine.usage().pages_total == 2 and engine.usage().waiting == 0


def test_memory_does_not_grow_with_the_text_and_is_given_back(tokenizer: Tokenizer) -> None:
    engine = linear_engine(build(None, tokenizer.vocab_size), tokenizer)
    held = engine.held
    assert isinstance(held, LinearHeld)
    sizes = set()
    request = engine.submit([1] * 30, Sampling(max_new_tokens=60, **GREEDY))
    while request.finish_reason is None:
        engine.step()
        if engine.active:
            sizes.add(held.bytes())
    assert len(sizes) == 1
    engine.reset()
    assert held.bytes() == 0


def test_a_model_without_usable_numbers_is_refused(tokenizer: Tokenizer) -> None:
    model = build(None, tokenizer.vocab_size)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    engine = linear_engine(model, tokenizer)
    request = engine.submit([1, 2])
    with pytest.raises(ArtifactError, match="no finite probabilities"):
        engine.step()
    assert request.finish_reason == "cancelled" and not engine.active
