"""The prefix cache changes what is computed, and nothing that is said."""

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.invariant import Invariance
from ingot.inference.computing.pages import PAGE, Pages
from ingot.inference.computing.passes import Pass, Runner
from ingot.inference.engine import Engine
from ingot.inference.prefixes import Prefixes, Weights
from ingot.models.decoder import Decoder

GREEDY = Sampling(temperature=0, max_new_tokens=8)


class Counting:
    """A runner that notes how many tokens it was given."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.tokens = 0

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        self.tokens += len(pass_.tokens)
        return self.runner(pass_, pages)


def text_of(length: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300) for _ in range(length)]


@pytest.fixture
def engine_of(model: Decoder, tokenizer) -> Callable[..., tuple[Engine, Counting]]:
    def build(slots: int = 4, **more: object) -> tuple[Engine, Counting]:
        # Tile by tile: rows that are computed together must not round otherwise than one alone.
        counting = Counting(Invariance(compiled=False).build(model))
        return Engine(model, tokenizer, slots, runner=counting, **more), counting  # type: ignore[arg-type]

    return build


def test_a_known_beginning_is_not_computed_again(engine_of) -> None:
    engine, counting = engine_of()
    system = text_of(100, seed=1)
    engine.generate([[*system, 1, 2, 3]], GREEDY)
    read = counting.tokens
    again = engine.generate([[*system, 4, 5]], GREEDY)[0]
    # 102 prompt tokens, of which three pages of 32 were there, and seven that were made.
    assert counting.tokens - read == 102 - 3 * PAGE + 7
    assert engine.usage().prefix_hits == 3 * PAGE
    assert engine.usage().prefix_queries == 103 + 102
    fresh, _ = engine_of()
    assert again.tokens == fresh.generate([[*system, 4, 5]], GREEDY)[0].tokens


def test_an_answer_can_be_the_next_prompts_beginning(engine_of) -> None:
    engine, counting = engine_of()
    first = engine.generate([text_of(40, seed=2)], Sampling(temperature=0, max_new_tokens=30))[0]
    read = counting.tokens
    engine.generate([[*text_of(40, seed=2), *first.tokens, 9]], Sampling(temperature=0, max_new_tokens=1))
    assert counting.tokens - read == 71 - 2 * PAGE


def test_whole_pages_that_are_known_leave_one_page_to_compute(engine_of) -> None:
    engine, counting = engine_of()
    prompt = text_of(2 * PAGE, seed=3)
    first = engine.generate([prompt], Sampling(temperature=0, max_new_tokens=1))[0]
    read = counting.tokens
    assert engine.generate([prompt], Sampling(temperature=0, max_new_tokens=1))[0].tokens == first.tokens
    assert counting.tokens - read == PAGE


def test_a_beginning_that_several_ask_for_at_once_is_computed_once(engine_of) -> None:
    engine, counting = engine_of(slots=8)
    system = text_of(3 * PAGE, seed=4)
    prompts = [[*system, i, i + 1] for i in range(8)]
    together = engine.generate(prompts, Sampling(temperature=0, max_new_tokens=1))
    assert counting.tokens == 3 * PAGE + 8 * 2
    for prompt, completion in zip(prompts, together, strict=True):
        fresh, _ = engine_of()
        alone = fresh.generate([prompt], Sampling(temperature=0, max_new_tokens=1))[0]
        assert completion.tokens == alone.tokens


def test_equal_prompts_are_computed_once_to_the_last_token(engine_of) -> None:
    engine, counting = engine_of(slots=6)
    choices = [Sampling(temperature=1, seed=i, max_new_tokens=20) for i in range(6)]
    for length in (5, PAGE, PAGE + 7):
        counting.tokens = 0
        prompt = text_of(length, seed=length)
        together = engine.generate([prompt] * 6, choices)
        assert counting.tokens == length + 6 * 19
        for sampling, completion in zip(choices, together, strict=True):
            fresh, _ = engine_of()
            assert completion.tokens == fresh.generate([prompt], sampling)[0].tokens


def test_other_adapters_have_other_pages() -> None:
    prefixes = Prefixes(Pages(4))
    names: dict[str | None, list[bytes]] = {adapter: [] for adapter in (None, "a", "b")}
    for adapter, held in names.items():
        prefixes.extend(held, text_of(70, seed=5), adapter, 2)
    prefixes.forget()
    later: list[bytes] = []
    prefixes.extend(later, text_of(70, seed=5), None, 2)
    assert len({name for held in (*names.values(), later) for name in held}) == 8


def test_names_depend_on_all_tokens_before() -> None:
    prefixes = Prefixes(Pages(4))
    one, other = text_of(3 * PAGE, seed=6), text_of(3 * PAGE, seed=6)
    other[0] += 1
    names: list[list[bytes]] = [[], []]
    for held, text in zip(names, (one, other), strict=True):
        prefixes.extend(held, text, None, 3)
    assert not set(names[0]) & set(names[1])


def test_weights_that_change_make_all_pages_unknown(model: Decoder, tokenizer) -> None:
    changing = Decoder(model.config).eval().requires_grad_(False)
    changing.load_state_dict(model.state_dict())
    engine = Engine(changing, tokenizer)
    prompt = text_of(100, seed=7)
    before = engine.generate([prompt], GREEDY)[0]
    with torch.no_grad():
        for parameter in changing.parameters():
            if parameter.dim() == 2:
                parameter.copy_(parameter.flip(0))
    after = engine.generate([prompt], GREEDY)[0]
    assert engine.usage().prefix_hits == 0
    assert after.tokens == Engine(changing, tokenizer).generate([prompt], GREEDY)[0].tokens
    assert after.tokens != before.tokens


def test_watched_weights_tell_of_writes_once(model: Decoder) -> None:
    watched = torch.nn.Linear(2, 2)
    weights = Weights(watched)
    assert not weights.changed()
    with torch.no_grad():
        watched.bias.add_(1)
    assert weights.changed()
    assert not weights.changed()


def test_pages_are_forgotten_when_their_place_is_needed(model: Decoder, engine_of) -> None:
    """The cache holds one context: another long text drives the first one out."""
    engine, counting = engine_of(slots=1)
    prompt = text_of(150, seed=8)
    engine.generate([prompt], GREEDY)
    engine.generate([text_of(150, seed=9)], GREEDY)
    counting.tokens = 0
    engine.generate([prompt], GREEDY)
    assert counting.tokens == 150 + 7
    usage = engine.usage()
    assert usage.pages_used == 0
    assert usage.pages_idle <= usage.pages_total == 5


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_outputs_with_and_without_known_beginnings_are_equal(model: Decoder, tokenizer, data) -> None:
    """Prompts made of few pieces, so that they share beginnings; in waves; beside a fresh engine for each."""
    pieces = [text_of(length, seed=length) for length in (3, 20, PAGE, 45)]
    engine = Engine(model, tokenizer, slots=3)
    for wave in range(2):
        prompts = data.draw(
            st.lists(st.lists(st.sampled_from(pieces), min_size=1, max_size=3), min_size=1, max_size=4)
        )
        flat = [[token for piece in prompt for token in piece] for prompt in prompts]
        choices = [Sampling(temperature=0.5, seed=wave, max_new_tokens=6) for _ in flat]
        for prompt, sampling, made in zip(flat, choices, engine.generate(flat, choices), strict=True):
            alone = Engine(model, tokenizer, slots=1).generate([prompt], sampling)[0]
            assert made.tokens == alone.tokens
            assert made.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
