"""The n-gram model against a hand-made toy and against its definition written out with counters."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import ArtifactError, ConfigError, DataError
from ingot.models.ngram_counts import FALLBACK, estimate_discounts, train
from ingot.models.ngram_files import load, save

BOS, V = 0, 6
TEXTS = st.lists(st.lists(st.integers(1, V - 1), max_size=12), min_size=1, max_size=6).filter(any)


class Definition:
    """Interpolated modified Kneser-Ney as the paper writes it: counters, recursion, nothing else."""

    def __init__(self, documents: Sequence[Sequence[int]], order: int) -> None:
        self.order = order
        texts = [(BOS, *document) for document in documents]
        grams = {
            n: Counter(text[i : i + n] for text in texts for i in range(len(text) - n + 1))
            for n in range(1, order + 1)
        }
        self.a: dict[int, dict[tuple[int, ...], int]] = {order: dict(grams[order])}
        for n in range(1, order):
            varied = Counter(longer[1:] for longer in grams[n + 1])
            starts = {gram: count for gram, count in grams[n].items() if gram[0] == BOS}
            self.a[n] = dict(varied) | starts
        self.a[1].pop((BOS,), None)
        self.discounts = {
            n: (0.0, *estimate_discounts(np.array(list(a.values())))) for n, a in self.a.items()
        }

    def probability(self, context: tuple[int, ...], word: int) -> float:
        context = context[max(0, len(context) - self.order + 1) :]
        return self._at(context, word)

    def _at(self, context: tuple[int, ...], word: int) -> float:
        n = len(context) + 1
        lower = self._at(context[1:], word) if context else 1 / V
        followers = {gram[-1]: a for gram, a in self.a[n].items() if gram[:-1] == context}
        total = sum(followers.values())
        if total == 0:
            return lower
        d = self.discounts[n]
        spared = sum(d[min(a, 3)] for a in followers.values()) / total
        a = followers.get(word, 0)
        return (a - d[min(a, 3)]) / total + spared * lower


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 5), st.lists(st.integers(0, V - 1), max_size=6))
def test_every_context_sums_to_one(documents: list[list[int]], order: int, context: list[int]) -> None:
    chances = train(documents, V, BOS, order).distribution(context)
    assert abs(chances.sum() - 1) <= 1e-9 and (chances > 0).all()


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4), st.lists(st.integers(0, V - 1), max_size=5))
def test_it_is_the_definition(documents: list[list[int]], order: int, context: list[int]) -> None:
    expected = Definition(documents, order)
    found = train(documents, V, BOS, order).distribution(context)
    for word in range(V):
        assert found[word] == pytest.approx(expected.probability(tuple(context), word), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4), st.lists(st.integers(0, V - 1), min_size=1, max_size=8))
def test_a_text_costs_what_its_tokens_cost(documents: list[list[int]], order: int, text: list[int]) -> None:
    model = train(documents, V, BOS, order)
    one_by_one = [-math.log(model.distribution([BOS, *text[:i]])[token]) for i, token in enumerate(text)]
    assert model.nats(text) == pytest.approx(one_by_one, rel=1e-12)


def test_a_toy_computed_by_hand() -> None:
    """Two documents, `a b a` and `a c` (a, b, c = 1, 2, 3), bigrams, vocabulary of 6.

    Bigrams: BOS a 2, a b 1, b a 1, a c 1. Different tokens before a: BOS and b, so 2; before b 1; before
    c 1. Too few for estimates: D = 0.5, 1, 1.5. Unigrams: total 4, spared (1 + 0.5 + 0.5) / 4 = 0.5:
    p(a) = 1/4 + 0.5/6 = 1/3, p(b) = 0.5/4 + 0.5/6 = 5/24. After a: total 2, spared 0.5:
    p(b | a) = 0.5/2 + 0.5 * 5/24 = 17/48, p(a | a) = 0.5 * 1/3 = 1/6. After BOS: total 2, D of 2 is 1:
    p(a | BOS) = 1/2 + 0.5 * 1/3 = 2/3. Never seen: p(5) = 0.5/6 = 1/12.
    """
    model = train([[1, 2, 1], [1, 3]], V, BOS, order=2)
    assert model.tables[0].discounts == FALLBACK
    assert model.distribution([])[[1, 2, 5]] == pytest.approx([1 / 3, 5 / 24, 1 / 12], abs=1e-15)
    assert model.distribution([1])[[2, 3, 1]] == pytest.approx([17 / 48, 17 / 48, 1 / 6], abs=1e-15)
    assert model.distribution([BOS])[1] == pytest.approx(2 / 3, abs=1e-15)
    assert model.distribution([5]) == pytest.approx(model.distribution([]), abs=1e-15)
    assert model.nats([1, 2]) == pytest.approx([-math.log(2 / 3), -math.log(17 / 48)], abs=1e-12)


def test_discounts_are_chen_and_goodmans() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [10, 5, 3, 2, 7])  # y = 10 / 20
    assert estimate_discounts(counts) == pytest.approx((0.5, 2 - 3 * 0.5 * 3 / 5, 3 - 4 * 0.5 * 2 / 3))
    assert estimate_discounts(np.array([1, 1, 2, 3])) == FALLBACK
    assert estimate_discounts(np.repeat([1, 2, 3, 4], [1, 1, 50, 1])) == FALLBACK  # D of 2 below zero


def test_longer_contexts_predict_better_and_its_own_text_best() -> None:
    other = Path(json.__file__).read_text(encoding="utf-8").encode()
    half, rest = list(other[:9000]), list(other[9000:])
    costs = [train([half], 257, 256, order).nats(rest).mean() / math.log(2) for order in (1, 2, 3, 5)]
    assert 8 > costs[0] > costs[1] > costs[2] > costs[3] - 0.1
    assert costs[2] < 4
    own = train([half], 257, 256, 5)
    assert own.nats(half).mean() < own.nats(rest).mean() / 2


def test_it_continues_what_it_has_read() -> None:
    text = list(b"the cat sat on the mat. ") * 20
    model = train([text], 257, 256, order=6)
    assert bytes(model.generate([256, *b"the cat s"], 14, temperature=0)) == b"at on the mat."
    assert model.generate([256], 30, seed=3) == model.generate([256], 30, seed=3)
    assert model.generate([256], 30, seed=3) != model.generate([256], 30, seed=4)


def test_it_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = train([list(b"abracadabra"), list(b"abba")], 257, 256, order=3)
    save(model, tmp_path)
    again = load(tmp_path)
    assert np.array_equal(model.nats(list(b"cabbage")), again.nats(list(b"cabbage")))
    assert again.memory == model.memory > 16 * sum(len(table.keys) for table in model.tables)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ngram.json", lambda b: b"{"),
        ("ngram.json", lambda b: b'{"vocabulary": 257}'),
        ("ngram.json", lambda b: b.replace(b"257", b"7")),
        ("ngram.json", lambda b: b.replace(b"0.5", b"9")),
        ("ngram.json", lambda b: b"[]"),
        ("ngram.safetensors", lambda b: b[:-3]),
        ("ngram.safetensors", lambda b: b[:-8] + b"\xff" * 8),
        ("ngram.safetensors", lambda b: b""),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, change: object) -> None:
    save(train([list(b"abracadabra")], 257, 256, order=2), tmp_path)
    assert callable(change)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(ArtifactError, match="not a readable n-gram model"):
        load(tmp_path)


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="order is 0"):
        train([[1]], V, BOS, 0)
    with pytest.raises(DataError, match="no token"):
        train([[], []], V, BOS)
    with pytest.raises(DataError, match="token 6 is outside the vocabulary of 6"):
        train([[1, 6]], V, BOS)
    model = train([[1, 2]], V, BOS)
    with pytest.raises(DataError, match="token -1"):
        model.nats([-1])
    with pytest.raises(DataError, match="token 99"):
        model.distribution([99])
    with pytest.raises(ArtifactError):
        load(tmp_path / "nowhere")


def test_documents_shorter_than_the_order_are_enough(tmp_path: Path) -> None:
    model = train([[1]], V, BOS, order=4)
    save(model, tmp_path)
    for one in (model, load(tmp_path)):
        assert one.nats([1, 2]) == pytest.approx(train([[1]], V, BOS, order=2).nats([1, 2]))
        assert abs(one.distribution([BOS, 1, 1]).sum() - 1) <= 1e-9
