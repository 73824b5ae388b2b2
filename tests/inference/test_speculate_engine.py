"""Speculation in the engine: whatever is guessed, answers are those without guesses."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ingot.errors import ArtifactError
from ingot.inference.choosing.sampling import Rows, Sampling, sample
from ingot.inference.computing.invariant import Invariance
from ingot.inference.engine import Engine
from ingot.inference.guessing.draft import DraftModel, guessed, load_draft
from ingot.inference.guessing.prompt_lookup import PromptLookup
from ingot.inference.request import Request
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.tokenizer import Tokenizer

CHOICES = [
    Sampling(temperature=0, max_new_tokens=40),
    Sampling(temperature=1, seed=1, max_new_tokens=33),
    Sampling(temperature=0.7, top_k=9, top_p=0.9, seed=2, max_new_tokens=40),
    Sampling(temperature=1.2, min_p=0.05, seed=3, max_new_tokens=25),
    Sampling(temperature=0.4, repetition_penalty=1.3, seed=4, max_new_tokens=30),
    Sampling(temperature=0, max_new_tokens=1),
]
REPEATING = [7, 8, 9, 10, 11] * 6
PROMPTS = [REPEATING, [1, 2], REPEATING[2:], [5] * 70, list(range(40)) * 2, [3]]


@dataclass
class Wild:
    """Guesses of any kind: what a script says, given the right answers."""

    answers: dict[tuple[int, ...], list[int]]
    script: list[int]  # how many of the next guesses are right
    most: int = 6
    free_rows: float = 1e9  # guessing is free, so the pace stays long
    at: int = 0
    made: int = 0
    gone: list[Request] = field(default_factory=list)

    def cost(self, engine: Engine) -> float:
        return 0.0

    def build(self, engine: Engine) -> Wild:
        return self

    def propose(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[list[int]]:
        drafts = []
        for request, length in zip(requests, lengths, strict=True):
            right = self.script[self.at % len(self.script)]
            self.at += 1
            coming = self.answers.get(tuple(request.prompt), [])[len(request.tokens) :][:length]
            draft = [token if i < right else (token + 1) % 300 for i, token in enumerate(coming)]
            self.made += len(draft)
            drafts.append(draft)
        return drafts

    def forget(self, request: Request) -> None:
        self.gone.append(request)


def same(engine: Engine, plain: Engine, choices: Sequence[Sampling] = CHOICES) -> None:
    made = engine.generate(PROMPTS, choices)
    expected = plain.generate(PROMPTS, choices)
    for mine, other in zip(made, expected, strict=True):
        assert mine.tokens == other.tokens
        assert mine.text == other.text
        assert mine.finish_reason == other.finish_reason
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("slots", [1, 4])
def test_prompt_lookup_changes_no_answer(model: Decoder, tokenizer: Tokenizer, slots: int) -> None:
    engine = Engine(model, tokenizer, slots=slots, speculate=PromptLookup(shortest=1, free_rows=100))
    same(engine, Engine(model, tokenizer, slots=slots))


def test_a_draft_model_changes_no_answer(model: Decoder, tokenizer: Tokenizer) -> None:
    other = DecoderConfig(
        vocabulary=model.config.vocabulary,
        width=16,
        layers=1,
        heads=2,
        kv_heads=1,
        head_width=8,
        feed_forward=16,
        context=100,  # shorter than the model's
    ).build(seed=5)
    for draft in (other.eval(), model):
        engine = Engine(model, tokenizer, slots=3, speculate=DraftModel(draft, free_rows=100))
        same(engine, Engine(model, tokenizer, slots=3))


@dataclass(frozen=True)
class Free(DraftModel):
    """A draft model whose guesses cost nothing, so that drafts stay long."""

    def cost(self, engine: Engine) -> float:
        return 0.0


@pytest.mark.parametrize("temperature", [0, 1e-3])
def test_the_model_as_its_own_draft_is_always_right(
    model: Decoder, tokenizer: Tokenizer, temperature: float
) -> None:
    engine = Engine(model, tokenizer, speculate=Free(model, most=4, free_rows=1e9))
    request = engine.submit(REPEATING, Sampling(temperature=temperature, max_new_tokens=51))
    steps = 0
    while request.finish_reason is None:
        engine.step()
        steps += 1
    assert len(request.tokens) == 51
    assert steps == 11  # one for the prompt, then five tokens a pass
    assert engine.usage().drafted == engine.usage().accepted == 40


def test_the_places_number_makes_guesses_better(model: Decoder, tokenizer: Tokenizer) -> None:
    """At temperature 1, than the likeliest token, which is right as often as its probability says."""
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)).mul(1.5).expand(4000, 40)
    rows = Rows.of([(Sampling(temperature=1), seed) for seed in range(4000)], 40, torch.device("cpu"))
    places = torch.zeros(4000, dtype=torch.long)
    sampled, _ = sample(logits, rows, places)
    right = (guessed(logits, rows, places) == sampled).double().mean()
    assert right > 1.3 * logits[0].softmax(-1).max()


@pytest.fixture(scope="module")
def expected(model: Decoder, tokenizer: Tokenizer) -> dict[tuple[int, ...], list[int]]:
    """Answers to the prompts without guesses."""
    made = Engine(model, tokenizer, slots=1).generate(PROMPTS, CHOICES)
    return {tuple(prompt): one.tokens for prompt, one in zip(PROMPTS, made, strict=True)}


@settings(max_examples=8, deadline=None)
@given(script=st.lists(st.integers(0, 6), min_size=1, max_size=8), slots=st.integers(1, 5))
def test_any_guesses_change_no_answer(
    model: Decoder,
    tokenizer: Tokenizer,
    expected: dict[tuple[int, ...], list[int]],
    script: list[int],
    slots: int,
) -> None:
    wild = Wild(expected, script)
    made = Engine(model, tokenizer, slots=slots, speculate=wild).generate(PROMPTS, CHOICES)
    assert [one.tokens for one in made] == [expected[tuple(prompt)] for prompt in PROMPTS]
    assert wild.made > 0


def test_few_pages_and_guesses_together(model: Decoder, tokenizer: Tokenizer) -> None:
    """Preempted, read again and guessed ahead: the same answers, and every page comes back."""
    prompts = [[i, *range(24)] for i in range(5)]
    choices = [Sampling(temperature=i / 3, seed=i, max_new_tokens=45) for i in range(5)]
    plain = Engine(model, tokenizer, slots=5).generate(prompts, choices)
    right = {tuple(prompt): one.tokens for prompt, one in zip(prompts, plain, strict=True)}
    page = 10**6 // Engine(model, tokenizer, memory=10**6).usage().pages_total
    engine = Engine(model, tokenizer, slots=5, memory=8 * page, speculate=Wild(right, [6, 0, 3]))
    made = engine.generate(prompts, choices)
    assert engine.usage().preemptions > 0
    assert [one.tokens for one in made] == [one.tokens for one in plain]
    assert engine.usage().pages_used == 0


def test_pages_of_wrong_guesses_are_not_found_by_others(
    model: Decoder, tokenizer: Tokenizer, expected: dict[tuple[int, ...], list[int]]
) -> None:
    """A request that begins with an answer reads its pages: they hold the answer, not what was guessed."""
    engine = Engine(model, tokenizer, slots=2, speculate=Wild(expected, [2, 0, 5]))
    engine.generate(PROMPTS, CHOICES)
    again = [[*prompt, *expected[tuple(prompt)]] for prompt in PROMPTS]
    greedy = Sampling(temperature=0, max_new_tokens=8)
    hits = engine.usage().prefix_hits
    for mine, other in zip(
        engine.generate(again, greedy), Engine(model, tokenizer).generate(again, greedy), strict=True
    ):
        assert mine.tokens == other.tokens
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert engine.usage().prefix_hits > hits


def test_stops_and_limits_within_a_draft(
    model: Decoder, tokenizer: Tokenizer, expected: dict[tuple[int, ...], list[int]]
) -> None:
    whole = expected[tuple(REPEATING)]
    greedy = CHOICES[0]
    for at in (0, 3, 10):
        stop = whole[at]
        engine = Engine(model, tokenizer, speculate=Wild(expected, [6]))
        made = engine.generate([REPEATING], greedy, stop_ids=[stop])[0]
        assert made.tokens == whole[: whole.index(stop) + 1]
        assert made.finish_reason == "stop"
        short = greedy.model_copy(update={"max_new_tokens": at + 1})
        made = engine.generate([REPEATING], short)[0]
        assert made.tokens == whole[: at + 1]
        assert made.finish_reason == "length"
    text = tokenizer.decode(whole)[6:9]
    stopping = greedy.model_copy(update={"stop": (text,)})
    made = Engine(model, tokenizer, speculate=Wild(expected, [6])).generate([REPEATING], stopping)[0]
    assert made.text == Engine(model, tokenizer).generate([REPEATING], stopping)[0].text
    full = [[3] * 150]
    long = Sampling(temperature=0, max_new_tokens=500)
    made = Engine(model, tokenizer, speculate=PromptLookup(free_rows=100)).generate(full, long)[0]
    assert len(made.tokens) == model.config.context - 150
    assert made.tokens == Engine(model, tokenizer).generate(full, long)[0].tokens


def test_requests_that_leave_are_forgotten(
    model: Decoder, tokenizer: Tokenizer, expected: dict[tuple[int, ...], list[int]]
) -> None:
    wild = Wild(expected, [1])
    engine = Engine(model, tokenizer, speculate=wild)
    requests = [engine.submit(prompt, Sampling(temperature=0)) for prompt in PROMPTS[:3]]
    for _ in range(4):
        engine.step()
    engine.cancel(requests[1])
    assert wild.gone == [requests[1]]
    engine.reset()
    assert not engine.active


def test_the_distribution_is_the_models(tokenizer: Tokenizer) -> None:
    """Texts of three tokens of a vocabulary of five, with random guesses, against exact probabilities."""
    config = DecoderConfig(
        vocabulary=5, width=16, layers=2, heads=2, kv_heads=2, head_width=8, feed_forward=16, context=16
    )
    model = config.build(seed=3).eval()
    with torch.no_grad():
        model.head.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(4))

    rng = random.Random(0)

    class Blind(Wild):
        def propose(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[list[int]]:
            return [[rng.randrange(5) for _ in range(length)] for length in lengths]

    n = 1500
    choices = [Sampling(temperature=1, seed=seed, max_new_tokens=3) for seed in range(n)]
    engine = Engine(model, tokenizer, slots=500, speculate=Blind({}, [0]))
    made = [tuple(one.tokens) for one in engine.generate([[1, 2]] * n, choices)]
    assert engine.usage().accepted > n / 10
    texts = list(itertools.product(range(5), repeat=3))
    whole = torch.tensor([[1, 2, *text] for text in texts])
    with torch.inference_mode():
        logprobs = model(whole).logits.double().log_softmax(-1)[:, 1:-1]
    expected = logprobs.gather(-1, whole[:, 2:, None]).sum((1, 2)).exp() * n
    observed = [made.count(text) for text in texts]
    assert stats.chisquare(observed, (expected * n / expected.sum()).tolist()).pvalue > 1e-3


def test_another_vocabulary_is_refused(model: Decoder, tokenizer: Tokenizer, tmp_path) -> None:
    small = DecoderConfig(
        vocabulary=50, width=16, layers=1, heads=2, kv_heads=1, head_width=8, feed_forward=16, context=64
    ).build()
    with pytest.raises(ArtifactError, match="50 tokens, the model"):
        Engine(model, tokenizer, speculate=DraftModel(small))
    huggingface.save(tmp_path, model)
    tokenizer.save(tmp_path)
    loaded = load_draft(tmp_path, tokenizer, like=model)
    assert loaded.model.config == model.config
    other = Tokenizer.train(["quite another text, with other words in it " * 20], vocabulary=340)
    if other.vocab_size == tokenizer.vocab_size:
        with pytest.raises(ArtifactError, match="not those of the model"):
            load_draft(tmp_path, other, like=model)


@pytest.mark.parametrize("compiled", [True, False])
def test_in_batch_invariant_mode_bit_for_bit(
    model: Decoder, tokenizer: Tokenizer, expected: dict[tuple[int, ...], list[int]], compiled: bool
) -> None:
    invariant = Invariance(compiled=compiled)
    prompts, choices = PROMPTS[:3], CHOICES[:3]
    plain = Engine(model, tokenizer, slots=1, invariant=invariant).generate(prompts, choices)
    for speculate in (Wild(expected, [6, 1, 3]), DraftModel(model), PromptLookup(shortest=1)):
        engine = Engine(model, tokenizer, slots=3, invariant=invariant, speculate=speculate)
        for mine, other in zip(engine.generate(prompts, choices), plain, strict=True):
            assert mine.tokens == other.tokens
            assert mine.logprobs == other.logprobs
