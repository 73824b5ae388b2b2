"""Who runs when: budgets, priorities, preemption without a trace, and nobody starves."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ingot.errors import RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.pages import PAGE, Layout, Pages
from ingot.inference.computing.passes import Pass
from ingot.inference.engine import Engine
from ingot.inference.request import Request
from ingot.models.decoder import Decoder


class Told:
    """A stand-in for a model: the next token is a hash of the segment's place, and every pass is noted."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.passes: list[list[int]] = []  # the segments' lengths

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        self.passes.append(pass_.starts.diff().tolist())
        at = pass_.positions[pass_.wanted]
        return torch.nn.functional.one_hot((at * 7 + 3) % self.vocabulary, self.vocabulary).float()


def page_bytes(model: Decoder) -> int:
    return Layout.of(model.config).page_bytes(torch.float32)


def prompt_of(length: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300) for _ in range(length)]


def finish(engine: Engine, requests: list[Request]) -> list[Request]:
    """Steps until all are finished; returns them in that order."""
    order: list[Request] = []
    for _ in range(5000):
        order += [request for request in engine.step() if request.finish_reason]
        if len(order) == len(requests):
            return order
    raise AssertionError("the engine does not come to an end")


def test_a_long_prompt_is_read_in_chunks_while_answers_go_on(model: Decoder, tokenizer) -> None:
    told = Told(model.config.vocabulary)
    engine = Engine(model, tokenizer, runner=told, chunk=40)
    talking = engine.submit(prompt_of(10, 1), Sampling(temperature=0, max_new_tokens=30))
    engine.step()
    engine.submit(prompt_of(130, 2), Sampling(temperature=0, max_new_tokens=5))
    for _ in range(4):
        before = len(talking.tokens)
        assert talking in engine.step()
        assert len(talking.tokens) == before + 1
    assert told.passes[1:5] == [[1, 39], [1, 39], [1, 39], [1, 13]]


def test_prompts_share_the_budget_of_a_pass(model: Decoder, tokenizer) -> None:
    told = Told(model.config.vocabulary)
    engine = Engine(model, tokenizer, runner=told, chunk=64)
    for i, length in enumerate((30, 30, 30)):
        engine.submit(prompt_of(length, i), Sampling(temperature=0, max_new_tokens=3))
    engine.step()
    engine.step()
    assert told.passes == [[30, 30, 4], [1, 1, 26]]


def test_lower_priorities_go_first_then_the_older(model: Decoder, tokenizer) -> None:
    engine = Engine(model, tokenizer, slots=1, runner=Told(model.config.vocabulary))
    short = Sampling(temperature=0, max_new_tokens=2)
    wishes = [(3, 0), (0, 1), (3, 2), (-1, 3), (0, 4)]
    requests = [engine.submit([1, i], short, priority=priority) for priority, i in wishes]
    order = [requests.index(request) for request in finish(engine, requests)]
    assert order == [3, 1, 4, 0, 2]


def test_nobody_waits_for_ever_behind_higher_priorities(model: Decoder, tokenizer) -> None:
    engine = Engine(model, tokenizer, slots=1, runner=Told(model.config.vocabulary))
    short = Sampling(temperature=0, max_new_tokens=1)
    patient = engine.submit([5], short, priority=1)
    for i in range(1500):
        engine.submit([1, i % 300], short, priority=0)
        if patient in engine.step():
            break
    assert patient.finish_reason == "length"
    assert 900 < i < 1100


def test_preemption_leaves_no_trace_in_answers(model: Decoder, tokenizer) -> None:
    """Memory for a third of what is asked: all answers as with plenty, and none takes a token back."""
    prompts = [prompt_of(length, length) for length in (20, 33, 64, 5, 50, 31)]
    choices = [Sampling(temperature=1, seed=i, max_new_tokens=60) for i in range(6)]
    plenty = Engine(model, tokenizer, slots=6).generate(prompts, choices)
    engine = Engine(model, tokenizer, slots=6, memory=7 * page_bytes(model))
    requests = [engine.submit(*pair) for pair in zip(prompts, choices, strict=True)]
    said: dict[Request, list[int]] = {request: [] for request in requests}
    while engine.active or engine.waiting:
        engine.step()
        for request in requests:
            assert request.tokens[: len(said[request])] == said[request]
            said[request] = list(request.tokens)
        usage = engine.usage()
        assert usage.pages_used <= usage.pages_total == 7
    assert engine.usage().preemptions > 0
    assert [request.tokens for request in requests] == [completion.tokens for completion in plenty]
    for request, completion in zip(requests, plenty, strict=True):
        assert request.logprobs == pytest.approx(completion.logprobs, abs=1e-4)


def test_a_higher_priority_takes_pages_of_a_lower_one(model: Decoder, tokenizer) -> None:
    engine = Engine(
        model, tokenizer, slots=4, memory=5 * page_bytes(model), runner=Told(model.config.vocabulary)
    )
    low = engine.submit(prompt_of(100, 1), Sampling(temperature=0, max_new_tokens=50), priority=5)
    engine.step()
    high = engine.submit(prompt_of(90, 2), Sampling(temperature=0, max_new_tokens=50), priority=0)
    engine.step()
    assert engine.active == [high] and engine.waiting == [low]
    same = engine.submit(prompt_of(90, 3), Sampling(temperature=0, max_new_tokens=50), priority=0)
    engine.step()
    assert engine.active == [high]  # equals do not drive each other out
    assert finish(engine, [low, high, same]) == [high, same, low]
    assert len(low.tokens) == 50


def test_memory_bounds_the_context(model: Decoder, tokenizer) -> None:
    engine = Engine(model, tokenizer, memory=2 * page_bytes(model))
    assert engine.context == 2 * PAGE
    assert len(engine.generate([[1] * 60], Sampling(temperature=0, max_new_tokens=100))[0].tokens) == 4
    with pytest.raises(RequestError, match=r"64 tokens.*64"):
        engine.submit([1] * 64)
    with pytest.raises(RequestError, match="memory is 10 bytes"):
        Engine(model, tokenizer, memory=10)


def test_windows_let_pages_go(model: Decoder, tokenizer) -> None:
    """Where every layer has a window, an answer of any length keeps the pages that it can see."""
    config = model.config.model_copy(update={"window": 40})
    windowed = config.build(seed=1).eval().requires_grad_(False)
    engine = Engine(windowed, tokenizer)
    request = engine.submit(prompt_of(60, 1), Sampling(temperature=0, max_new_tokens=100))
    most = 0
    while request.finish_reason is None:
        engine.step()
        most = max(most, engine.usage().pages_used)
    assert most <= 3  # of the five that the text fills
    whole = torch.tensor([request.prompt + request.tokens])
    expected = windowed(whole).logits[0].log_softmax(-1)[59:-1].gather(1, whole[0, 60:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(request.logprobs), expected, atol=2e-4, rtol=1e-4)


def test_cancelling_who_reads_for_others_lets_them_read_themselves(model: Decoder, tokenizer) -> None:
    engine = Engine(model, tokenizer, slots=4, chunk=40)
    sampling = Sampling(temperature=0, max_new_tokens=5)
    expected = engine.generate([prompt_of(100, 4)], sampling)[0].tokens
    engine.reset()
    requests = [engine.submit(prompt_of(100, 4), sampling) for _ in range(3)]
    engine.step()
    engine.cancel(requests[0])
    while engine.active or engine.waiting:
        engine.step()
    assert requests[0].tokens == []
    assert [request.tokens for request in requests[1:]] == [expected] * 2
    assert engine.usage().pages_used == 0


def test_a_prompts_own_probabilities_are_those_of_the_plain_forward(model: Decoder, tokenizer) -> None:
    """In chunks, preempted or not, its beginning known or not."""
    prompt = prompt_of(100, 5)
    logits = model(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
    expected = logits.gather(1, torch.tensor(prompt[1:])[:, None])[:, 0]
    asked = Sampling(temperature=0, max_new_tokens=30, prompt_logprobs=True)
    engine = Engine(model, tokenizer, slots=3, chunk=24, memory=8 * page_bytes(model))
    engine.generate([prompt], Sampling(temperature=0, max_new_tokens=2))
    plain = Sampling(temperature=0, max_new_tokens=40)
    others = [engine.submit(prompt_of(40, i), plain, priority=-1) for i in range(2)]
    request = engine.submit(prompt, asked)
    finish(engine, [request, *others])
    assert request.prompt_logprobs[0] is None
    torch.testing.assert_close(torch.tensor(request.prompt_logprobs[1:]), expected, atol=2e-4, rtol=1e-4)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_whatever_happens_all_end_and_no_page_is_lost(model: Decoder, tokenizer, data) -> None:
    """Random submissions, steps and cancellations, little memory, guesses that are right or wrong."""
    told = Told(model.config.vocabulary)
    pages = data.draw(st.integers(2, 9))
    engine = Engine(
        model, tokenizer, slots=data.draw(st.integers(1, 5)), memory=pages * page_bytes(model), runner=told,
        chunk=data.draw(st.sampled_from([1, 7, 64])),
    )  # fmt: skip
    requests: list[Request] = []
    for _ in range(data.draw(st.integers(1, 40))):
        act = data.draw(st.sampled_from(["submit", "step", "step", "cancel", "guess"]))
        if act == "submit":
            length = data.draw(st.integers(1, engine.context - 1))
            prompt = prompt_of(length, data.draw(st.integers(0, 1)))
            sampling = Sampling(
                temperature=0,
                max_new_tokens=data.draw(st.integers(1, 40)),
                prompt_logprobs=data.draw(st.booleans()),
            )
            requests.append(engine.submit(prompt, sampling, priority=data.draw(st.integers(-1, 1))))
        elif act == "cancel" and requests:
            engine.cancel(data.draw(st.sampled_from(requests)))
        elif act == "guess":
            for entry in engine._schedule.running:
                left = entry.request.limit - len(entry.request.tokens)
                if len(entry.tokens) - entry.stored == 1 and left > 2:
                    place = len(entry.tokens)
                    right = [((place + i - 1) * 7 + 3) % told.vocabulary for i in range(2)]
                    entry.guesses = [right[0], right[1] + data.draw(st.integers(0, 1))]
        else:
            engine.step()
        held = {page for entry in engine._schedule.running for page in entry.table[entry.gone :]}
        assert engine.usage().pages_used == len(held)
    open_ones = [request for request in requests if request.finish_reason is None]
    finish(engine, open_ones)
    for request in requests:
        if request.finish_reason == "cancelled":
            continue
        places = range(len(request.prompt), request.length)
        assert request.tokens == [((place - 1) * 7 + 3) % told.vocabulary for place in places]
        assert len(request.tokens) == request.limit
    usage = engine.usage()
    assert usage.pages_used == usage.running == usage.waiting == 0
    assert not engine._schedule._reading and not engine._schedule._coming
