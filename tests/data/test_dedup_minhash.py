"""MinHash signatures against the definition, and the estimate that they give."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.dedup import MinHash, MinHashConfig, jaccard, shingles
from ingot.data.dedup import minhash as module
from ingot.data.dedup.minhash import NO_WORDS, permutations, smallest
from ingot.data.dedup.words import normal

TEXTS = st.text("ab ,.1É日\n", max_size=60)


def grams(text: str, width: int = 5) -> set[tuple[bytes, ...]]:
    """Word n-grams by the definition, words as bytes."""
    words = normal(text).split()
    width = min(width, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


@given(TEXTS, TEXTS)
def test_jaccard_of_shingles_equals_the_definition(a: str, b: str) -> None:
    minhash = MinHash()
    first, second = grams(a), grams(b)
    expected = len(first & second) / len(first | second) if first and second else 0.0
    assert jaccard(minhash.shingles(a), minhash.shingles(b)) == pytest.approx(expected)


@given(st.lists(TEXTS, max_size=12), st.sampled_from(["bare", "signs"]))
@settings(max_examples=80)
def test_signatures_are_the_least_values_of_the_shingles(texts: list[str], words: str) -> None:
    """Whatever stands beside a text in its batch; by whole numbers of Python."""
    minhash = MinHash(MinHashConfig.parse({"words": words, "bands": 2, "rows": 3, "seed": 5}))
    found = minhash.signatures(texts)
    assert found.shape == (len(texts), 6)
    multipliers, shifts = (one.tolist() for one in permutations(6, 5))
    for text, signature in zip(texts, found, strict=True):
        its = minhash.shingles(text).tolist()
        expected = [
            min(((a * x + b) % 2**64 for x in its), default=2**64 - 1)
            for a, b in zip(multipliers, shifts, strict=True)
        ]
        assert signature.tolist() == expected
        assert (minhash.signature(text) == signature).all()


@given(st.lists(TEXTS, max_size=6))
@settings(max_examples=50)
def test_signs_count_on_request(texts: list[str]) -> None:
    minhash = MinHash(MinHashConfig(words="signs"))
    for text in texts:
        assert minhash.shingles(text).tolist() == shingles(text).tolist()


@pytest.mark.parametrize("words", ["bare", "signs"])
def test_batches_and_chunks_do_not_show(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(0)
    texts = [" ".join(source.choices("abcdefgh", k=source.randint(0, 400))) for _ in range(60)]
    config = MinHashConfig.parse({"words": words})
    expected = MinHash(config).signatures(texts)
    monkeypatch.setattr(module, "_CHUNK", 37)
    monkeypatch.setattr("ingot.data.dedup.words.PIECE", 500)
    assert (MinHash(config).signatures(texts) == expected).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10), st.integers(1, 50))
def test_smallest_of_each_set_in_chunks(sizes: list[int], chunk: int) -> None:
    values = np.random.default_rng(1).integers(0, 2**63, size=sum(sizes)).astype(np.uint64)
    starts = np.cumsum([0, *sizes[:-1]])
    multipliers, shifts = permutations(3, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        found = smallest(values, starts, multipliers, shifts)
    for row, start, size in zip(found, starts, sizes, strict=True):
        part = values[start : start + size]
        assert row.tolist() == (multipliers[:, None] * part + shifts[:, None]).min(axis=1).tolist()


def test_texts_without_words_have_no_signature() -> None:
    found = MinHash().signatures(["", " \n", "?!...", "a"])
    assert (found[:3] == NO_WORDS).all()
    assert (found[3] != NO_WORDS).any()
    assert MinHash().signatures([]).shape == (0, 112)


def test_case_signs_accents_and_numbers_do_not_count() -> None:
    a, b = MinHash().signatures(["Le café coûte 3.50, à Paris!", "le cafe coute (12) -- a paris"])
    assert (a == b).all()


def test_signatures_estimate_jaccard() -> None:
    """The share of equal places has the true similarity as its mean (Broder 1997)."""
    a, b = (
        " ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in span)
        for span in (range(1000), range(300, 1300))
    )
    true = len(grams(a) & grams(b)) / len(grams(a) | grams(b))
    shares = []
    for seed in range(20):
        first, second = MinHash(MinHashConfig(seed=seed)).signatures([a, b])
        shares.append(float((first == second).mean()))
    deviation = (true * (1 - true) / (20 * 112)) ** 0.5
    assert abs(np.mean(shares) - true) < 4 * deviation


def test_signatures_are_the_same_everywhere_and_forever() -> None:
    """Corpora keep them: another value is another format."""
    minhash = pickle.loads(pickle.dumps(MinHash()))
    assert minhash.signature("the quick brown fox jumps over it")[:2].tolist() == [
        4098905649264460972,
        1008133623287323716,
    ]
