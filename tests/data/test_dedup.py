"""Cleaning and deduplication, against brute force and planted copies."""

from __future__ import annotations

import functools
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.data.clean import clean, objection
from ingot.data.dedup import Duplicate, exact_duplicates, jaccard, near, near_duplicates, shingles, text_hash
from ingot.data.dedup.minhash import permutations, rows_per_band, smallest


@given(st.text() | st.text("\r\n\0\ufeff\ud800a"))
def test_cleaning_is_uniform_and_stable(text: str) -> None:
    result = clean(text)
    assert clean(result) == result
    assert "\r" not in result
    assert not result.endswith("\0")
    assert result.encode().decode() == result


def test_cleaning_leaves_code_alone() -> None:
    code = "def f():\n\treturn 'ﬁ e\u0301 \u00a0'  \n\n\x0c\n"
    assert clean(code) == code


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), (" \n\t", "empty"), (" short ", "short"), ("a\0b", "binary")]
)
def test_texts_not_worth_keeping(text: str, reason: str) -> None:
    found = objection(text, min_bytes=6)
    assert found is not None
    assert found[0] == reason
    assert objection("longer", min_bytes=6) is None


@functools.cache
def grams(text: str) -> set[tuple[str, ...]]:
    """Word 5-grams by the definition, words as text."""
    words = re.findall(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|\S", text)
    width = min(5, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def true_jaccard(a: str, b: str) -> float:
    first, second = grams(a), grams(b)
    return len(first & second) / len(first | second) if first and second else 0.0


def brute_force(texts: list[str], threshold: float) -> list[int]:
    kept: list[int] = []
    for index, text in enumerate(texts):
        if all(true_jaccard(text, texts[other]) < threshold for other in kept):
            kept.append(index)
    return [index for index in range(len(texts)) if index not in kept]


def planted(seed: int, count: int = 40) -> list[str]:
    """Random texts, and copies of them with some words changed."""
    source = random.Random(seed)
    vocabulary = [f"word{index}" for index in range(500)]
    texts = []
    for _ in range(count):
        words = source.choices(vocabulary, k=source.randint(3, 300))
        texts.append(" ".join(words))
        for changes in source.choices([0, 1, 2, 5, 10, 40], k=2):
            copy = list(words)
            for _ in range(changes):
                copy[source.randrange(len(copy))] = source.choice(vocabulary)
            texts.append(" ".join(copy))
    source.shuffle(texts)
    return texts


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_near_duplicates_equal_brute_force(threshold: float) -> None:
    for seed in range(4):
        texts = planted(seed)
        found = near_duplicates(texts, threshold, seed)
        assert [one.index for one in found] == brute_force(texts, threshold)
        for one in found:
            assert one.of < one.index
            assert one.similarity == pytest.approx(true_jaccard(texts[one.index], texts[one.of]))


@given(st.text("ab .日本", max_size=40), st.text("ab .日本", max_size=40))
def test_jaccard_equals_the_definition(a: str, b: str) -> None:
    assert jaccard(shingles(a), shingles(b)) == pytest.approx(true_jaccard(a, b))


def test_texts_without_words_are_no_duplicates() -> None:
    assert near_duplicates(["", " ", "\n", ""], 0.5) == []


def test_hash_collisions_lose_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if every signature were the same, only true duplicates go."""
    monkeypatch.setattr(near, "smallest", lambda *_: np.zeros((1, near.PERMUTATIONS), dtype=np.uint64))
    texts = planted(1)
    assert [one.index for one in near_duplicates(texts, 0.8)] == brute_force(texts, 0.8)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_bands_miss_few_pairs_at_the_threshold(threshold: float) -> None:
    rows = rows_per_band(threshold, near.PERMUTATIONS, near.MISSED)
    assert (1 - threshold**rows) ** (near.PERMUTATIONS // rows) <= near.MISSED
    longer = rows + 1
    assert (1 - threshold**longer) ** (near.PERMUTATIONS // longer) > near.MISSED


def signature(text: str, seed: int) -> np.ndarray:
    return smallest(shingles(text), np.zeros(1, np.int64), *permutations(near.PERMUTATIONS, seed))[0]


def test_signatures_estimate_jaccard() -> None:
    """The share of equal places has the true similarity as its mean (Broder 1997)."""
    a, b = (" ".join(f"w{i}" for i in span) for span in (range(1000), range(300, 1300)))
    shares = []
    for seed in range(20):
        first, second = signature(a, seed), signature(b, seed)
        shares.append(float((first == second).mean()))
    deviation = (0.54 * 0.46 / (20 * near.PERMUTATIONS)) ** 0.5
    assert abs(sum(shares) / 20 - true_jaccard(a, b)) < 4 * deviation


@given(st.lists(st.sampled_from(["a", "b", "c", "a "])))
def test_exact_duplicates_point_at_the_first(texts: list[str]) -> None:
    expected = [Duplicate(i, texts.index(t), 1.0) for i, t in enumerate(texts) if texts.index(t) != i]
    assert exact_duplicates(texts) == expected


def test_results_do_not_depend_on_the_hash_of_the_process() -> None:
    assert signature("the quick brown fox jumps over it", 0)[:2].tolist() == [
        10349992082675162062,
        7032145214691213955,
    ]


@given(st.lists(st.text(max_size=3), max_size=30))
def test_texts_have_the_same_hash_only_if_they_are_the_same(texts: list[str]) -> None:
    assert len({text_hash(text) for text in texts}) == len(set(texts))
    assert all(len(text_hash(text)) == 16 for text in texts)


def test_half_characters_have_a_hash() -> None:
    assert text_hash("\ud800") != text_hash("\udc00")
    assert exact_duplicates(["\ud800", "\ud800"]) == [Duplicate(1, 0, 1.0)]
