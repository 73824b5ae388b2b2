"""Alternatives and prompt logprobs against a plain log-softmax."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.inference.choosing.sampling import Rows, Sampling, alternatives, told
from ingot.inference.request import Request
from ingot.inference.text import Transcript


class Nothing:
    """A tokenizer without text."""

    def token_bytes(self, token: int) -> bytes:
        return b""


def request(sampling: Sampling, prompt: list[int]) -> Request:
    return Request(prompt, sampling, frozenset(), seed=1, limit=50, transcript=Transcript(Nothing()))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 30))
def test_alternatives_are_the_best_of_a_log_softmax(seed: int, rows: int, count: int) -> None:
    logits = torch.randn(rows, 25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5
    expected = logits.log_softmax(-1)
    found = alternatives(logits, count)
    assert len(found) == rows
    for row, best in zip(expected, found, strict=True):
        assert len(best) == min(count, 25)
        order = row.argsort(descending=True)[: len(best)].tolist()
        assert [token for token, _ in best] == order
        assert all(math.isclose(value, row[token], abs_tol=1e-4) for token, value in best)


def test_told_is_a_log_softmax_too() -> None:
    logits = torch.randn(6, 25, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([0, 24, 3, 3, 9, 12])
    torch.testing.assert_close(told(logits, tokens), logits.log_softmax(-1)[torch.arange(6), tokens])


def test_every_request_gets_as_many_alternatives_as_it_asked_for() -> None:
    wishes = [Sampling(top_logprobs=2), Sampling(), Sampling(top_logprobs=5)]
    assert Rows.of([(wish, 1) for wish in wishes], 25, torch.device("cpu")).alternatives == 5
    best = alternatives(torch.randn(3, 25), 5)
    requests = [request(wish, [1]) for wish in wishes]
    for one, likely in zip(requests, best, strict=True):
        one.push(likely[0][0], likely[0][1], likely)
        one.push(3, -1.0)
    assert [[len(place) for place in one.completion().alternatives] for one in requests] == [
        [2, 0],
        [0, 0],
        [5, 0],
    ]
    assert requests[2].alternatives[0] == best[2]


def test_a_prompt_may_be_scored_in_pieces_and_again() -> None:
    one = request(Sampling(prompt_logprobs=True, top_logprobs=1), [4, 5, 6, 7])
    assert one.prompt_logprobs == [None]
    one.score(1, [-0.5], [[(5, -0.5), (2, -1.0)]])
    one.score(2, [-0.25, -0.75], [[(6, -0.25)], [(1, -0.1)]])
    one.score(2, [-0.25, -0.75], [[(6, -0.25)], [(1, -0.1)]])
    done = one.completion()
    assert done.prompt_logprobs == [None, -0.5, -0.25, -0.75]
    assert done.prompt_alternatives == [[], [(5, -0.5)], [(6, -0.25)], [(1, -0.1)]]
    assert request(Sampling(), [4, 5]).completion().prompt_logprobs == []
