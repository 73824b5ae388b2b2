"""Penalties, biases and bans against the logits processors of transformers, and against OpenAI's formula."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import MinNewTokensLengthLogitsProcessor, RepetitionPenaltyLogitsProcessor

from ingot.errors import ConfigError, RequestError
from ingot.inference.choosing.penalties import Edits, History
from ingot.inference.choosing.sampling import Sampling, sample
from ingot.inference.request import Request, rows_of
from ingot.inference.text import Transcript

CPU = torch.device("cpu")
V = 50
token = st.integers(0, V - 1)


class Letters:
    """A tokenizer of single letters."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([65 + token])


def request(
    sampling: Sampling, prompt: list[int], said: list[int], stop_ids: frozenset[int] = frozenset()
) -> Request:
    made = Request(prompt, sampling, stop_ids, seed=1, limit=10_000, transcript=Transcript(Letters()))
    for one in said:
        made.push(one, -1.0)
    return made


def edited(requests: list[Request], logits: torch.Tensor) -> torch.Tensor:
    edits = Edits.of(requests, CPU)
    return logits if edits is None else edits.apply(logits)


def logits_of(seed: int, rows: int) -> torch.Tensor:
    return torch.randn(rows, V, generator=torch.Generator().manual_seed(seed)) * 4


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.floats(0.1, 10), st.lists(token, min_size=1, max_size=30), st.lists(token, max_size=40)),
        min_size=1,
        max_size=4,
    ),
)
def test_repetition_equals_transformers(seed: int, rows: list[tuple[float, list[int], list[int]]]) -> None:
    logits = logits_of(seed, len(rows))
    requests = [request(Sampling(repetition_penalty=p), prompt, said) for p, prompt, said in rows]
    found = edited(requests, logits)
    for i, (penalty, prompt, said) in enumerate(rows):
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(
            torch.tensor([prompt + said]), logits[i : i + 1].clone()
        )
        torch.testing.assert_close(found[i : i + 1], theirs)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.lists(token, max_size=40)), min_size=1, max_size=4
    ),
)
def test_presence_and_frequency_follow_the_published_formula(seed: int, rows: list) -> None:
    logits = logits_of(seed, len(rows))
    requests = [
        request(Sampling(presence_penalty=presence, frequency_penalty=frequency), [1, 2, 2, 3], said)
        for presence, frequency, said in rows
    ]
    found = edited(requests, logits)
    for i, (presence, frequency, said) in enumerate(rows):
        counts = Counter(said)  # the answer's tokens only: the prompt does not count
        expected = [
            logits[i, j].item() - counts[j] * frequency - (presence if counts[j] else 0) for j in range(V)
        ]
        torch.testing.assert_close(found[i], torch.tensor(expected))


@settings(deadline=None)
@given(st.lists(token, max_size=100), st.lists(token, max_size=200))
def test_a_history_counts(prompt: list[int], said: list[int]) -> None:
    history = History(prompt)
    for one in said:
        history.push(one)
    counts = Counter(said)
    found = dict(zip(history.ids.tolist(), history.counts.tolist(), strict=True))
    assert found == {one: counts[one] for one in {*prompt, *said}}


def test_biases_are_added_and_rows_without_wishes_stay() -> None:
    logits = logits_of(0, 3)
    before = logits.clone()
    wishes = [Sampling(logit_bias={3: 2.5, 7: -100}), Sampling(), Sampling(logit_bias={0: 1})]
    found = edited([request(wish, [1], []) for wish in wishes], logits)
    expected = before.clone()
    expected[0, 3] += 2.5
    expected[0, 7] -= 100
    expected[2, 0] += 1
    assert torch.equal(found, expected)
    assert torch.equal(logits, before)


def test_nobody_pays_for_what_nobody_asks() -> None:
    assert Edits.of([request(Sampling(), [1], []), request(Sampling(temperature=0), [2], [])], CPU) is None
    assert rows_of([request(Sampling(), [1], [])], V, CPU).edits is None


@pytest.mark.parametrize("said", [0, 1, 2, 3, 4])
def test_stop_tokens_are_banned_until_enough_was_said(said: int) -> None:
    logits = logits_of(1, 1)
    wish = request(Sampling(min_new_tokens=3), [1, 2], [9] * said, frozenset({4, 5}))
    theirs = MinNewTokensLengthLogitsProcessor(2, 3, [4, 5])(
        torch.tensor([[1, 2] + [9] * said]), logits.clone()
    )
    assert torch.equal(edited([wish], logits), theirs)


def test_one_batch_of_edits_goes_on_being_right_as_its_requests_go_on() -> None:
    wish = request(Sampling(min_new_tokens=2, presence_penalty=1.0), [1], [], frozenset({4}))
    logits = logits_of(2, 1) / 10
    edits = Edits.of([wish], CPU)
    assert edits is not None
    for _ in range(4):
        assert torch.equal(edits.apply(logits), edited([wish], logits))
        wish.push(int(edits.apply(logits).argmax()), 0.0)
    assert wish.tokens != [wish.tokens[0]] * 4


def test_logprobs_are_those_of_the_model_whatever_is_edited() -> None:
    logits = logits_of(3, 1)
    wish = request(Sampling(temperature=0, logit_bias={6: 100}), [1], [])
    tokens, logprobs = sample(logits, rows_of([wish], V, CPU), torch.tensor([1]))
    assert tokens.tolist() == [6]
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[:, 6])


def test_samples_have_the_edited_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    count = 20_000
    wish = Sampling(temperature=0.7, presence_penalty=0.5, frequency_penalty=0.25, logit_bias={3: 1.5})
    requests = [request(wish, [0], [0, 1, 0]) for _ in range(count)]
    for seed, one in enumerate(requests):
        one.seed = seed
    tokens, _ = sample(logits.expand(count, 4), rows_of(requests, 4, CPU), torch.full((count,), 4))
    expected = ((logits - torch.tensor([1.0, 0.75, 0, -1.5])) / 0.7).double().softmax(-1)
    found = torch.bincount(tokens, minlength=4)
    assert stats.chisquare(found.numpy(), (expected * count).numpy()).pvalue > 1e-3


def test_stop_texts_and_stop_tokens_wait_for_enough_tokens() -> None:
    """'B' is said first in the two tokens that must come, then again."""
    wish = Sampling(min_new_tokens=2, stop=("B",), max_new_tokens=9)
    made = Request([0], wish, frozenset({5}), 1, 9, Transcript(Letters(), wish.stop))
    assert [made.push(one, 0.0) for one in (1, 0, 0, 1)] == [False, False, False, True]
    assert made.completion().text == "BAA"
    assert made.finish_reason == "stop"


def test_ignoring_the_end_makes_stop_tokens_ordinary() -> None:
    made = request(Sampling(ignore_eos=True), [0], [5, 5], frozenset({5}))
    assert made.finish_reason is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 2.1),
        ("frequency_penalty", float("nan")),
        ("repetition_penalty", 0),
        ("repetition_penalty", float("inf")),
        ("logit_bias", {-1: 1}),
        ("logit_bias", {1: 101}),
        ("logit_bias", {1: float("nan")}),
        ("logit_bias", {"a": 1}),
        ("logit_bias", dict.fromkeys(range(5000), 1)),
        ("min_new_tokens", -1),
        ("min_p", 1.5),
        ("typical_p", 0),
        ("top_logprobs", 21),
    ],
)
def test_wishes_that_mean_nothing_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Sampling.parse({field: value})


def test_wishes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_new_tokens only 3"):
        Sampling.parse({"min_new_tokens": 4, "max_new_tokens": 3})
    with pytest.raises(ConfigError, match="grammar"):
        Sampling.parse({"ignore_eos": True, "grammar": {"kind": "json_object"}})


def test_a_bias_for_a_token_that_there_is_not_is_refused() -> None:
    Sampling(logit_bias={V - 1: 1}).check(V)
    with pytest.raises(RequestError, match="there is no token 50"):
        Sampling(logit_bias={3: 1, V: 1}).check(V)
