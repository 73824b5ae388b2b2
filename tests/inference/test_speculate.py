"""The parts of speculative decoding: the rule, drafts from the text, and how long drafts are."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ingot.errors import ConfigError
from ingot.inference.choosing.constrain import Grammar
from ingot.inference.choosing.sampling import Rows, Sampling, sample
from ingot.inference.guessing.prompt_lookup import PromptLookup, Text
from ingot.inference.guessing.speculate import Pace, agreed, suits

CPU = torch.device("cpu")
few = st.integers(0, 3)


@given(draft=st.lists(few, max_size=6), sampled=st.lists(few, min_size=7, max_size=7))
def test_agreement_is_the_longest_common_beginning(draft: list[int], sampled: list[int]) -> None:
    longest = max(k for k in range(len(draft) + 1) if draft[:k] == sampled[:k])
    assert agreed(draft, sampled) == longest


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0.7), Sampling(top_k=5), Sampling(top_p=0.8), Sampling(min_p=0.1)],
)
def test_a_guess_is_accepted_with_the_probability_of_the_rejection_rule(sampling: Sampling) -> None:
    """Of Leviathan et al., min(1, p(x)/q(x)), where q is certain of x: p(x), whatever cuts p off."""
    torch.manual_seed(0)
    logits = torch.randn(6) * 1.5
    n = 20_000
    rows = Rows.of([(sampling, 3)] * n, 6, CPU)
    sampled, _ = sample(logits.expand(n, 6), rows, torch.arange(n))
    p = (logits / sampling.temperature).softmax(-1)
    order = p.argsort(descending=True)
    kept = torch.ones(6, dtype=torch.bool)
    if sampling.top_k:
        kept[order[sampling.top_k :]] = False
    if sampling.top_p < 1:
        before = p[order].cumsum(-1) - p[order]
        kept[order[before >= sampling.top_p]] = False
    kept &= p >= sampling.min_p * p.max()
    p = torch.where(kept, p, 0) / p[kept].sum()
    for guess in range(6):
        right = sum(agreed([guess], [token, 0]) for token in sampled.tolist())
        assert stats.binomtest(right, n, float(p[guess])).pvalue > 1e-4


def test_any_drafts_leave_the_distribution_as_it_is() -> None:
    """A Markov chain of four tokens instead of a model: frequencies of whole texts, by a chi-square test."""
    torch.manual_seed(1)
    logits = torch.randn(4, 4)
    p = (logits.double() / 0.9).softmax(-1)
    length, seeds = 3, 8000
    sampling = Sampling(temperature=0.9)
    rng = random.Random(2)
    drafts = [[rng.randrange(4) for _ in range(rng.randrange(4))] for _ in range(50)]
    made: list[tuple[int, ...]] = []
    at = torch.zeros(seeds, dtype=torch.long)
    # What is sampled after each token at each place is a table, as all of it is keyed by the place alone.
    choices = [(sampling, seed) for seed in range(seeds)]
    rows = Rows.of(choices, 4, CPU)
    table = [
        [sample(logits[b].expand(seeds, 4), rows, at + place)[0].tolist() for b in range(4)]
        for place in range(1, 1 + length)
    ]
    for seed in range(seeds):
        text = [0]
        while len(text) <= length:
            place = len(text)
            draft = drafts[(seed + place) % 50][: length - place]
            before = [text[-1], *draft]
            sampled = [table[place - 1 + i][b][seed] for i, b in enumerate(before)]
            text += sampled[: agreed(draft, sampled) + 1]
        made.append(tuple(text[1:]))
    texts = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    expected = [float(p[0, a] * p[a, b] * p[b, c]) * seeds for a, b, c in texts]
    observed = [made.count(text) for text in texts]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def followers(tokens: list[int], longest: int, shortest: int) -> list[int]:
    """By looking everywhere: what follows the last place where the longest ending stood before."""
    for size in range(longest, shortest - 1, -1):
        for end in range(len(tokens) - 1, size - 1, -1):
            if tokens[end - size : end] == tokens[len(tokens) - size :]:
                return tokens[end:]
    return []


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.lists(few, max_size=6), min_size=1, max_size=6),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    length=st.integers(1, 9),
)
def test_lookup_finds_what_a_search_finds(
    pieces: list[list[int]], sizes: tuple[int, int], length: int
) -> None:
    longest, shortest = max(sizes), min(sizes)
    text = Text(range(longest, shortest - 1, -1))
    tokens: list[int] = []
    for piece in pieces:
        text.add(piece)
        tokens += piece
        draft = text.draft(length)
        expected = followers(tokens, longest, shortest)
        assert len(draft) == (length if expected else 0)
        assert all(token == expected[i % len(expected)] for i, token in enumerate(draft))


def test_lookup_refuses_sizes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="longest only 2"):
        PromptLookup.parse({"longest": 2, "shortest": 3})
    with pytest.raises(ConfigError, match="unknown key"):
        PromptLookup.parse({"longst": 2})


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.3, top_k=4, top_p=0.9, min_p=0.1, typical_p=0.9), True),
        (Sampling(logit_bias={3: 2.0}, top_logprobs=3, prompt_logprobs=True, ignore_eos=True), True),
        (Sampling(repetition_penalty=1.1), False),
        (Sampling(presence_penalty=-0.5), False),
        (Sampling(frequency_penalty=0.5), False),
        (Sampling(min_new_tokens=4), False),
        (Sampling(grammar=Grammar(kind="regex", text="a+")), False),
    ],
)
def test_what_depends_on_earlier_tokens_is_not_guessed(sampling: Sampling, expected: bool) -> None:
    assert suits(sampling) is expected


def played(acceptance: float, price: float, tokens: int, seed: int = 0) -> tuple[int, float]:
    """Tokens that were guessed, and the time of a text whose guesses are right that often."""
    rng = random.Random(seed)
    pace = Pace()
    made = guessed = 0
    seconds = 0.0
    while made < tokens:
        k = pace.length(8, price)
        right = 0
        while right < k and rng.random() < acceptance:
            right += 1
        pace.settle(k, right)
        made += right + 1
        guessed += k
        seconds += 1 + k * price
    return guessed, seconds


@pytest.mark.parametrize("price", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_the_pace_is_near_the_best_fixed_length(acceptance: float, price: float) -> None:
    tokens = 3000

    def fixed(k: int) -> float:
        expected = sum(acceptance**i for i in range(k + 1))
        return tokens * (1 + k * price) / expected

    best = min(fixed(k) for k in range(9))
    _, seconds = played(acceptance, price, tokens)
    assert seconds < 1.12 * best


def test_drafts_that_are_never_right_almost_cease() -> None:
    guessed, seconds = played(0.0, 0.3, 5000)
    assert guessed < 150
    assert seconds < 5000 * 1.01


def test_drafts_come_back_when_the_text_repeats_itself() -> None:
    pace = Pace()
    for _ in range(300):
        pace.settle(pace.length(8, 0.2), 0)
    later = 0
    for _ in range(600):
        k = pace.length(8, 0.2)
        pace.settle(k, k)
        later += k
    assert later > 8 * 50
