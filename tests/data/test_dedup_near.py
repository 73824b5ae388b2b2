"""Near-duplicates of large corpora: against brute force, on planted copies, and with hashes that collide."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ingot.data.dedup import Duplicate, MinHash, MinHashConfig, jaccard, near_duplicates, near_duplicates_of
from ingot.data.dedup import buckets as buckets_module
from ingot.data.dedup.buckets import forget, scratch
from ingot.data.dedup.minhash import NO_WORDS
from ingot.errors import ConfigError
from ingot.progress import Task

LETTERS = "abcdefghijklmnopqrstuvwxyz"
Pairs = list[tuple[int, int, float]]


def vocabulary(count: int) -> list[str]:
    return [LETTERS[i % 26] + LETTERS[i // 26 % 26] + LETTERS[i // 676] for i in range(count)]


def planted(seed: int, originals: int, copies: int) -> list[str]:
    """Random texts, and near-copies of some of them, with words changed at random places."""
    source = random.Random(seed)
    known = vocabulary(2000)
    texts = [source.choices(known, k=source.randint(40, 160)) for _ in range(originals)]
    for _ in range(copies):
        copy = list(texts[source.randrange(originals)])
        # each changed word spoils up to five of the shingles: from a Jaccard of 0.95 down to 0.4
        for _ in range(source.randint(0, max(1, len(copy) // 20))):
            copy[source.randrange(len(copy))] = source.choice(known)
        texts.append(copy)
    source.shuffle(texts)
    return [" ".join(words) for words in texts]


def pairs_above(texts: Sequence[str], least: float) -> Pairs:
    """All pairs by their true similarity, from words as text and an index of shared shingles."""
    grams = []
    for text in texts:
        words = text.split()
        grams.append({tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))})
    shared: dict[tuple[int, int], int] = {}
    where: dict[tuple[str, ...], list[int]] = {}
    for index, mine in enumerate(grams):
        for gram in mine:
            for other in where.setdefault(gram, []):
                shared[other, index] = shared.get((other, index), 0) + 1
            where[gram].append(index)
    scored = [(a, b, n / (len(grams[a]) + len(grams[b]) - n)) for (a, b), n in shared.items()]
    return [pair for pair in scored if pair[2] >= least]


def greedy(count: int, pairs: Pairs) -> list[int]:
    """Which texts go if every pair is seen: those like an earlier one that stays."""
    like: dict[int, list[int]] = {}
    for a, b, _ in pairs:
        like.setdefault(b, []).append(a)
    gone: set[int] = set()
    for index in range(count):
        if any(other not in gone for other in like.get(index, ())):
            gone.add(index)
    return sorted(gone)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_enough_bands_equal_brute_force(threshold: float) -> None:
    for seed in range(3):
        texts = planted(seed, 60, 60)
        found = near_duplicates_of(MinHash().signatures(texts), texts.__getitem__, threshold, bands=None)
        pairs = pairs_above(texts, threshold)
        assert [one.index for one in found] == greedy(len(texts), pairs)
        true = {(a, b): similarity for a, b, similarity in pairs}
        for one in found:
            assert one.similarity == pytest.approx(true[one.of, one.index])
        gone = {one.index for one in found}
        assert not gone & {one.of for one in found}


def test_signed_words_decide_as_in_memory() -> None:
    """The signatures differ, so both miss other pairs, but hardly any at all."""
    texts = [text.replace("a", "(A, ") for text in planted(8, 100, 100)]
    minhash = MinHash(MinHashConfig(words="signs"))
    found = near_duplicates_of(
        minhash.signatures(texts), texts.__getitem__, 0.7, bands=None, shingles_of=minhash.shingles
    )
    assert found == near_duplicates(texts, 0.7)
    assert found


def test_precision_and_recall_on_planted_copies() -> None:
    """2,000 texts, FineWeb's bands: verification makes precision 1, and few copies are missed."""
    texts = planted(7, 1200, 800)
    signatures = MinHash().signatures(texts)
    pairs = pairs_above(texts, 0.4)
    for threshold in (0.7, 0.8, 0.85):
        found = near_duplicates_of(signatures, texts.__getitem__, threshold)
        true = {(a, b): similarity for a, b, similarity in pairs if similarity >= threshold}
        assert all((one.of, one.index) in true for one in found)
    gone = {one.index for one in found}  # at 0.85
    alike = {b for a, b in true if a not in gone}
    assert len(alike) > 100
    assert len(gone & alike) >= 0.97 * len(alike)
    # Without verification whatever shares a band would go, much below the threshold too.
    keys = signatures.reshape(len(texts), 14, 8)
    hinted = {(a, b) for a, b, _ in pairs if (keys[a] == keys[b]).all(axis=1).any()}
    precision = len(hinted & set(true)) / len(hinted)
    assert precision < 0.9
    assert len(hinted & set(true)) >= 0.97 * len(true)


def test_colliding_signatures_lose_no_text() -> None:
    """Even if all signatures were the same, only true duplicates go."""
    texts = planted(1, 40, 40)
    same = np.zeros((len(texts), 112), dtype=np.uint64)
    found = near_duplicates_of(same, texts.__getitem__, 0.8)
    true = {(a, b): similarity for a, b, similarity in pairs_above(texts, 0.8)}
    assert found
    for one in found:
        assert one.similarity == pytest.approx(true[one.of, one.index])


def test_a_giant_bucket_is_not_compared_with_itself() -> None:
    """Hundreds of texts that share all bands and nothing else: each meets the first 64 that stay."""
    texts = [" ".join(vocabulary(3000)[i * 3 : i * 3 + 3]) for i in range(300)]
    texts.append(texts[5])
    texts.append(texts[200])
    asked: list[int] = []

    def text_of(index: int) -> str:
        asked.append(index)
        return texts[index]

    found = near_duplicates_of(np.zeros((len(texts), 112), dtype=np.uint64), text_of, 0.8)
    assert found == [Duplicate(300, 5, 1.0)]  # the copy of a text that nobody represents stays
    assert len(asked) <= len(texts)


def test_a_giant_bucket_of_copies_costs_one_comparison_each() -> None:
    texts = ["to be or not to be that is the question"] * 500
    calls = 0

    def shingles_of(text: str) -> np.ndarray:
        nonlocal calls
        calls += 1
        return MinHash().shingles(text)

    found = near_duplicates_of(MinHash().signatures(texts), texts.__getitem__, 0.8, shingles_of=shingles_of)
    assert found == [Duplicate(index, 0, 1.0) for index in range(1, 500)]
    assert calls == 500


def test_working_files_and_pieces_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = planted(3, 150, 150)
    signatures = MinHash().signatures(texts)
    expected = near_duplicates_of(signatures, texts.__getitem__, 0.6)
    assert expected
    monkeypatch.setattr(buckets_module, "_CHUNK", 17)
    monkeypatch.setattr(buckets_module, "_SORTED_BITS", 4)
    monkeypatch.setattr(buckets_module, "_IN_MEMORY", 0)
    monkeypatch.setattr("ingot.data.dedup.near._CACHED", 1000)
    monkeypatch.setattr("ingot.data.dedup.near._FORGET", 3)
    place = tmp_path / "signatures"
    signatures.tofile(place)
    mapped = np.memmap(place, dtype=np.uint64, mode="r").reshape(-1, 112)
    assert near_duplicates_of(mapped, texts.__getitem__, 0.6, folder=tmp_path) == expected
    assert list(tmp_path.iterdir()) == [place]


def test_narrow_signatures_do_as_well() -> None:
    texts = planted(4, 60, 60)
    signatures = MinHash().signatures(texts)
    narrow = (signatures >> np.uint64(32)).astype(np.uint32)
    assert near_duplicates_of(narrow, texts.__getitem__, 0.6) == near_duplicates_of(
        signatures, texts.__getitem__, 0.6
    )


@pytest.mark.parametrize("dtype", [np.uint64, np.uint32])
def test_texts_without_words_are_no_duplicates(dtype: type) -> None:
    texts = ["", "?", " ", "one", "one"]
    signatures = MinHash().signatures(texts)
    assert (signatures[:3] == NO_WORDS).all()
    narrow = (signatures >> np.uint64(0 if dtype is np.uint64 else 32)).astype(dtype)
    assert near_duplicates_of(narrow, texts.__getitem__, 0.5) == [Duplicate(4, 3, 1.0)]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    texts = ["one"] * count
    assert near_duplicates_of(MinHash().signatures(texts), texts.__getitem__, 0.5) == []


@pytest.mark.parametrize(("threshold", "bands"), [(0.0, 14), (1.1, 14), (0.8, 0), (0.8, 113)])
def test_settings_that_mean_nothing_are_refused(threshold: float, bands: int) -> None:
    with pytest.raises(ConfigError, match="near duplicates"):
        near_duplicates_of(np.zeros((2, 112), np.uint64), str, threshold, bands)


def test_progress_counts_every_text_twice() -> None:
    class Counted(Task):
        done = 0.0

        def advance(self, amount: float = 1, numbers: str = "") -> None:
            self.done += amount

    task = Counted()
    texts = planted(5, 30, 10)
    near_duplicates_of(MinHash().signatures(texts), texts.__getitem__, 0.5, task=task)
    assert task.done == 2 * len(texts)


def test_memory_is_let_go_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets_module, "_IN_MEMORY", 0)
    array = scratch((3, 5000), np.uint32, tmp_path)
    array[:] = 7
    forget(array[1:, :10])
    assert (array == 7).all()
    place = tmp_path / "private"
    array.tofile(place)
    private = np.memmap(place, dtype=np.uint32, mode="c")
    private[:] = 9
    forget(private)
    assert (private == 9).all()
    forget(np.zeros(3))


def test_similarity_is_that_of_the_shingles() -> None:
    texts = planted(6, 20, 20)
    minhash = MinHash()
    of: Callable[[int], np.ndarray] = lambda index: minhash.shingles(texts[index])  # noqa: E731
    for one in near_duplicates_of(minhash.signatures(texts), texts.__getitem__, 0.4):
        assert one.similarity == jaccard(of(one.index), of(one.of))
