"""Deduplication: drop texts that repeat an earlier one, exactly or nearly.

Near means Jaccard: the share of word 5-grams that two texts have in common. MinHash signatures (Broder
1997) make similar texts likely to agree in a band, and locality-sensitive hashing (Indyk and Motwani 1998)
compares only those that do. A shared band is just a hint: each pair is checked by its true Jaccard
similarity, so that no text is lost to a hash collision.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.data.permutation import mix
from ingot.progress import Task

Hashes = NDArray[np.uint64]

NGRAM = 5
PERMUTATIONS = 128
MISSED = 1e-3
"""The chance, at most, that a pair right at the threshold shares no band and so goes unseen."""

_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|\S")  # scripts without spaces: one character each
_STEP = np.uint64(0x9E3779B97F4A7C15)
_CHUNK = 4096
_CACHED = 1_000_000


@dataclass(frozen=True)
class Duplicate:
    """Text `index` repeats the earlier text `of`; `similarity` is 1.0 for an exact copy."""

    index: int
    of: int
    similarity: float


def exact_duplicates(texts: Sequence[str]) -> list[Duplicate]:
    """Finds texts that are the same, byte for byte, as an earlier one."""
    first: dict[bytes, int] = {}
    found = []
    for index, text in enumerate(texts):
        original = first.setdefault(hashlib.sha256(text.encode("utf-8")).digest(), index)
        if original != index:
            found.append(Duplicate(index, original, 1.0))
    return found


def near_duplicates(
    texts: Sequence[str], threshold: float, seed: int = 0, task: Task | None = None
) -> list[Duplicate]:
    """Finds texts whose similarity to an earlier text that stays is at least the threshold.

    Args:
        texts: in order of preference: of two, the earlier stays.
        threshold: Jaccard similarity of their word 5-grams, above 0.
        seed: of the hash functions.
        task: is told of every text.

    Returns:
        One entry per text to drop, with the most similar text that stays among those compared.
    """
    task = task or Task()
    multipliers, shifts = _permutations(seed)
    rows = _rows_per_band(threshold)
    word_hashes = _WordHashes()
    kept: dict[int, Hashes] = {}
    bands: list[defaultdict[bytes, list[int]]] = [defaultdict(list) for _ in range(PERMUTATIONS // rows)]
    found: list[Duplicate] = []
    for index, text in enumerate(texts):
        grams = shingles(text, word_hashes)
        task.advance()
        if len(grams) == 0:
            continue
        signature = _signature(grams, multipliers, shifts)
        keys = [signature[i * rows : (i + 1) * rows].tobytes() for i in range(len(bands))]
        candidates = {one for band, key in zip(bands, keys, strict=True) for one in band.get(key, ())}
        scored = [(jaccard(grams, kept[one]), -one) for one in candidates]
        similarity, original = max(scored, default=(0.0, 0))
        if similarity >= threshold:
            found.append(Duplicate(index, -original, similarity))
            continue
        kept[index] = grams
        for band, key in zip(bands, keys, strict=True):
            band[key].append(index)
    return found


def jaccard(a: Hashes, b: Hashes) -> float:
    """Returns the size of the intersection over that of the union, of two sorted sets without repeats."""
    if len(a) == 0 or len(b) == 0:
        return 0.0
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def shingles(text: str, word_hashes: _WordHashes | None = None) -> Hashes:
    """Returns the set of hashed word 5-grams of a text, sorted; a shorter text is one gram.

    Words are runs of letters and digits; every other sign counts as a word, blanks do not count.
    """
    word_hashes = word_hashes if word_hashes is not None else _WordHashes()
    words = _WORD.findall(text)
    if not words:
        return np.empty(0, dtype=np.uint64)
    hashed = np.array([word_hashes[word] for word in words], dtype=np.uint64)
    width = min(NGRAM, len(hashed))
    grams = np.zeros(len(hashed) - width + 1, dtype=np.uint64)
    for position in range(width):
        grams = mix(grams + hashed[position : position + len(grams)] + _STEP)
    return np.unique(grams)


class _WordHashes(dict[str, int]):
    """Word -> 64 bits, computed once for each word while there is room."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "little")
        return value


def _permutations(seed: int) -> tuple[Hashes, Hashes]:
    """Odd multipliers and shifts: x -> a x + b is a permutation of the 64-bit numbers."""
    counter = np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64) + np.uint64(seed % 2**32 << 32)
    numbers = mix(counter * _STEP)
    return numbers[:PERMUTATIONS, None] | np.uint64(1), numbers[PERMUTATIONS:, None]


def _signature(grams: Hashes, multipliers: Hashes, shifts: Hashes) -> Hashes:
    """The smallest value of the set under each permutation."""
    smallest = np.full(PERMUTATIONS, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(grams), _CHUNK):
        permuted = multipliers * grams[start : start + _CHUNK] + shifts
        np.minimum(smallest, permuted.min(axis=1), out=smallest)
    return smallest


def _rows_per_band(threshold: float) -> int:
    """The longest bands (fewest false hints) that still miss at most `MISSED` of pairs at the threshold.

    Two texts of similarity s agree in a band of r rows with chance s^r, and in none of n / r bands with
    chance (1 - s^r)^(n / r).
    """
    for rows in range(PERMUTATIONS, 1, -1):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED:
            return rows
    return 1
