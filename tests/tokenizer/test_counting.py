"""Counting against a plain Counter: the same for any number of workers, and within the bound when pruned."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import ConfigError, ResourceError
from ingot.tokenizer import counting
from ingot.tokenizer.counting import PieceCounts, count
from ingot.tokenizer.split import Splitter, count_pieces


def zipf(number: int, seed: int = 0) -> list[str]:
    """Texts of words that follow Zipf's law: few frequent, many rare."""
    source = random.Random(seed)
    words = ["".join(source.choices("abcdefghijklmnop", k=source.randint(4, 9))) for _ in range(20_000)]
    weights = list(itertools.accumulate(1 / (1 + rank) for rank in range(len(words))))
    return [" ".join(source.choices(words, cum_weights=weights, k=100)) for _ in range(number)]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were much text: batches of a few thousand characters, workers from the second on."""
    monkeypatch.setattr(counting, "_BATCH", 20_000)
    monkeypatch.setattr(counting, "_FEW", 2)


def test_counts_are_those_of_a_counter() -> None:
    texts = zipf(50)
    counts = count(texts, workers=1)
    assert counts == count_pieces(texts)
    assert counts.exact and counts.error == counts.dropped == 0


@pytest.mark.parametrize("memory_mb", [1024, 0.3])
@pytest.mark.usefixtures("small_batches")
def test_one_and_two_workers_count_the_same(memory_mb: float) -> None:
    texts = zipf(300)
    one, two = (count(iter(texts), workers=workers, memory_mb=memory_mb) for workers in (1, 2))
    assert list(one.items()) == list(two.items())
    assert (one.dropped, one.error, one.prunings) == (two.dropped, two.error, two.prunings)
    assert one.exact == (memory_mb == 1024)
    if one.exact:
        assert one == count_pieces(texts)


def check_bound(counts: PieceCounts, true: Counter[str]) -> None:
    assert counts.total() + counts.dropped == true.total()
    for piece, number in true.items():
        assert counts[piece] <= number <= counts[piece] + counts.error, piece
    assert not set(counts) - set(true)


@pytest.mark.usefixtures("small_batches")
def test_pruning_keeps_its_bound_and_its_memory() -> None:
    texts = zipf(600)
    counts = count(texts, workers=1, memory_mb=0.3)
    true = count_pieces(texts)
    check_bound(counts, true)
    assert counts.prunings > 1
    assert 0 < counts.error < 40
    assert len(counts) * 150 < 0.3 * 2**20
    frequent = [piece for piece, number in true.most_common(100)]
    assert set(frequent) <= set(counts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 9)), max_size=9),
    st.integers(200, 4000),
)
def test_the_bound_holds_for_any_batches(batches: list[dict[str, int]], limit: int) -> None:
    table = counting._Table(limit)
    true: Counter[str] = Counter()
    for batch in batches:
        table.add(batch)
        true.update(batch)
        assert sum(len(piece) + 49 + 100 for piece in table.counts) <= limit
    check_bound(table.counts, true)


def test_a_long_text_is_counted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = zipf(20)
    monkeypatch.setattr(counting, "_LONG", 100)
    assert count(texts, Splitter("gpt2"), workers=1) == count_pieces(texts, Splitter("gpt2"))


@pytest.mark.usefixtures("small_batches")
def test_texts_are_normalised_by_the_workers() -> None:
    texts = zipf(100)
    assert count(texts, workers=2, normalise=str.upper) == count_pieces([text.upper() for text in texts])


@pytest.mark.usefixtures("small_batches")
def test_reading_goes_on_while_workers_count_and_an_error_of_the_reader_comes_through() -> None:
    read = 0

    def texts() -> object:
        nonlocal read
        for text in zipf(400):
            read += 1
            yield text
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        count(texts(), workers=2)  # type: ignore[arg-type]
    assert read == 400


class Deadly:
    """Cuts a text, and dies of it."""

    def split(self, text: str) -> list[str]:
        os._exit(9)


@pytest.mark.usefixtures("small_batches")
def test_a_killed_worker_is_named() -> None:
    with pytest.raises(ResourceError, match=r"worker.*killed.*fewer workers"):
        count(zipf(100), Deadly(), workers=2)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"memory_mb": 0}])
def test_no_workers_and_no_memory_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        count(["text"], **wrong)  # type: ignore[arg-type]


def test_the_task_is_told_of_every_character() -> None:
    class Told:
        done = 0.0

        def advance(self, amount: float = 1, numbers: str = "") -> None:
            self.done += amount

    told = Told()
    count(["abc", "de"], workers=1, task=told)  # type: ignore[arg-type]
    assert told.done == 5
    assert count([], workers=1) == {}
