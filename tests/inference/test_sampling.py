"""Sampling against plain Python, and its random numbers against their distribution."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from ingot.errors import ConfigError
from ingot.inference.choosing.sampling import Rows, Sampling, draw, likeliest, sample, told, uniform
from ingot.inference.choosing.truncation import highest, threshold, typical

BITS = 2**64 - 1


def allowed_by_hand(scores: list[float], k: int, p: float) -> set[int]:
    """Which indexes may be sampled: the k best, of those the smallest set that reaches p."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    weights = [math.exp(scores[i]) for i in order]
    kept, reached = set(), 0.0
    for index, weight in zip(order, weights, strict=True):
        kept.add(index)
        reached += weight / sum(weights)
        if reached >= p:
            break
    return kept


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(1, 400), st.floats(0.01, 1.0)), min_size=1, max_size=4),
    st.floats(0.1, 6),
)
def test_the_allowed_set_is_that_of_plain_python(seed: int, limits: list[tuple[int, float]], spread) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(limits), 300, generator=generator) * spread
    rows = Rows.of([(Sampling(top_k=k, top_p=p), 0) for k, p in limits], 300, torch.device("cpu"))
    if rows.best == 0:
        return
    smallest = threshold(scores, rows.top_k, rows.top_p, rows.best)
    for row, (k, p) in enumerate(limits):
        mine = set((scores[row] >= smallest[row]).nonzero().flatten().tolist())
        low = allowed_by_hand(scores[row].tolist(), min(k, 300), p - 1e-4)
        high = allowed_by_hand(scores[row].tolist(), min(k, 300), p + 1e-4 if p < 1 else 2)
        assert low <= mine <= high


def test_flat_distributions_need_more_than_the_first_look() -> None:
    scores = torch.zeros(1, 3000) + torch.arange(3000) * -1e-4
    rows = Rows.of([(Sampling(top_p=0.9), 0)], 3000, torch.device("cpu"))
    smallest = threshold(scores, rows.top_k, rows.top_p, rows.best)
    kept = int((scores >= smallest).sum())
    assert kept == pytest.approx(len(allowed_by_hand(scores[0].tolist(), 3000, 0.9)), abs=3)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**20))
def test_numbers_are_those_of_splitmix(seed: int, place: int) -> None:
    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & BITS
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & BITS
        return x ^ (x >> 31)

    expected = (mix((mix(seed & BITS) + place * 0x9E3779B97F4A7C15) & BITS) >> 40) / 2**24
    assert uniform(torch.tensor([seed]), torch.tensor([place])).item() == expected


def test_numbers_are_even_and_unrelated_across_seeds_and_places() -> None:
    by_place = uniform(torch.full((20_000,), 5), torch.arange(20_000))
    by_seed = uniform(torch.arange(20_000), torch.full((20_000,), 5))
    for numbers in (by_place, by_seed):
        assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3
        assert abs(stats.pearsonr(numbers[:-1], numbers[1:]).statistic) < 0.03
    assert abs(stats.pearsonr(by_place, by_seed).statistic) < 0.03


def test_samples_have_the_models_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    count = 20_000
    rows = Rows.of([(Sampling(temperature=1.5), 3)] * count, 5, torch.device("cpu"))
    tokens, logprobs = sample(logits.expand(count, 5), rows, torch.arange(count))
    expected = (logits / 1.5).double().softmax(-1)[:4]
    found = torch.bincount(tokens, minlength=5)
    assert found[4] == 0
    assert stats.chisquare(found[:4].numpy(), (expected / expected.sum() * count).numpy()).pvalue > 1e-3
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[tokens])


def test_rows_keep_their_own_settings() -> None:
    logits = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    choices = [
        (Sampling(temperature=0), 1),
        (Sampling(temperature=5, top_k=1), 2),
        (Sampling(temperature=5, top_p=1e-6), 3),
        (Sampling(temperature=1e-30), 4),
    ]
    rows = Rows.of(choices, 500, torch.device("cpu"))
    tokens, _ = sample(logits, rows, torch.arange(4))
    assert tokens.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [1e-300, 1e-8, 1e30])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    rows = Rows.of([(Sampling(temperature=temperature, top_p=0.9, top_k=40), 1)], 100, torch.device("cpu"))
    tokens, logprobs = sample(torch.linspace(-1e4, 1e4, 100)[None], rows, torch.tensor([1]))
    assert 0 <= tokens.item() < 100
    assert math.isfinite(logprobs.item())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 1), st.floats(0.3, 3)), min_size=1, max_size=4),
)
def test_min_p_and_typical_allow_what_transformers_allows(
    seed: int, wishes: list[tuple[float, float, float]]
) -> None:
    """Each token of the vocabulary is wanted in turn: it is sampled if and only if it is allowed."""
    v = 60
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(wishes), v, generator=generator) * 3
    for row, (min_p, typical_p, temperature) in zip(logits, wishes, strict=True):
        warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature), TopKLogitsWarper(40)])
        warpers.append(TopPLogitsWarper(0.97))
        warpers.append(MinPLogitsWarper(min_p))
        if typical_p < 1:
            warpers.append(TypicalLogitsWarper(typical_p))
        expected = warpers(torch.zeros(1, 1, dtype=torch.int64), row[None].clone()).softmax(-1)[0]
        choice = Sampling(temperature=temperature, top_k=40, top_p=0.97, min_p=min_p, typical_p=typical_p)
        rows = Rows.of([(choice, number) for number in range(400)], v, torch.device("cpu"))
        tokens, _ = sample(row.expand(400, v), rows, torch.arange(400))
        assert expected[tokens].min() > 0
        numbers = uniform(torch.arange(400), torch.arange(400))
        assert torch.equal(tokens, draw(expected.expand(400, v), numbers)) or _nearly_equal(
            tokens, expected, numbers
        )


def _nearly_equal(tokens: torch.Tensor, expected: torch.Tensor, numbers: torch.Tensor) -> bool:
    """Whether each token's share of the distribution holds its random number, up to rounding."""
    upper = expected.double().cumsum(-1)
    lower = upper - expected.double()
    return bool(((lower[tokens] - 1e-5 <= numbers) & (numbers <= upper[tokens] + 1e-5)).all())


def test_typical_keeps_everything_where_nothing_is_asked() -> None:
    scores = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(typical(scores, torch.ones(3)), scores)
    mixed = typical(scores, torch.tensor([1.0, 0.3, 1.0]))
    assert torch.equal(mixed[[0, 2]], scores[[0, 2]])
    assert (mixed[1] == -torch.inf).any()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 300), st.integers(1, 300))
def test_the_highest_scores_are_those_of_sorting(seed: int, rows: int, v: int, count: int) -> None:
    scores = torch.randn(rows, v, generator=torch.Generator().manual_seed(seed))
    expected = scores.sort(-1, descending=True).values[:, : min(count, v)]
    assert torch.equal(highest(scores, min(count, v)), expected)


def test_what_a_row_may_sample_does_not_depend_on_its_company() -> None:
    """A neighbour with a large k makes everybody look at more scores."""
    logits = torch.randn(2, 3000, generator=torch.Generator().manual_seed(4))
    choice, neighbour = Sampling(top_k=20, top_p=0.6), Sampling(top_k=2900, top_p=0.99)
    alone = sample(logits[:1], Rows.of([(choice, 9)], 3000, torch.device("cpu")), torch.tensor([5]))
    rows = Rows.of([(choice, 9), (neighbour, 1)], 3000, torch.device("cpu"))
    together = sample(logits, rows, torch.tensor([5, 5]))
    assert alone[0][0] == together[0][0]
    assert alone[1][0] == together[1][0]
    few = threshold(logits[:1], torch.tensor([20]), torch.tensor([0.6]), 128)
    many = threshold(logits[:1], torch.tensor([20]), torch.tensor([0.6]), 3000)
    assert torch.equal(few, many)


def test_the_first_of_equal_logits_wins_and_nan_is_not_hidden() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [torch.nan, 1.0, 2.0]])
    assert likeliest(logits).tolist() == [1, 0]
    assert told(logits, torch.tensor([1, 1]))[1].isnan()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 1e4))
def test_what_a_token_is_told_is_its_logit_less_the_total(seed: int, spread: float) -> None:
    logits = torch.randn(3, 70, generator=torch.Generator().manual_seed(seed)) * spread
    tokens = torch.tensor([0, 30, 69])
    expected = logits.double()[torch.arange(3), tokens] - logits.double().logsumexp(-1)
    torch.testing.assert_close(told(logits, tokens), expected.float())


def test_draw_never_takes_what_has_no_probability() -> None:
    probabilities = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    numbers = [0.0, 2.0**-24, 0.3, 0.5, 1 - 2.0**-24]
    taken = [draw(probabilities, torch.tensor([number])).item() for number in numbers]
    assert set(taken) <= {1, 3}
    assert taken[0] == 1
    assert taken[-1] == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("max_new_tokens", 0),
        ("seed", 2**64),
        ("stop", [""]),
    ],
)
def test_values_that_mean_nothing_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Sampling.parse({field: value})


def test_one_stop_text_needs_no_list() -> None:
    assert Sampling.parse({"stop": "END"}).stop == ("END",)
