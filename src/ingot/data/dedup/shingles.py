"""Shingles: a text as the set of its word n-grams (Broder 1997), and how alike two sets are.

Here every sign counts as a word and case matters, so that program text is told apart by its punctuation;
`minhash.py` has the looser shingles of FineWeb beside them.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

from ingot.data.dedup.rolling import Hashes
from ingot.data.permutation import mix

NGRAM = 5

_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|\S")  # scripts without spaces: one character each
_STEP = np.uint64(0x9E3779B97F4A7C15)
_CACHED = 1_000_000


class WordHashes(dict[str, int]):
    """Word -> 64 bits, computed once for each word while there is room."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "little")
        return value


def shingles(text: str, word_hashes: WordHashes | None = None, ngram: int = NGRAM) -> Hashes:
    """Returns the set of hashed word n-grams of a text; a shorter text is one gram.

    Words are runs of letters and digits; every other sign counts as a word, blanks do not count.

    Args:
        text: any.
        word_hashes: what is known of words from earlier texts.
        ngram: words of a gram.

    Returns:
        [n] uint64, sorted, without repeats.
    """
    word_hashes = word_hashes if word_hashes is not None else WordHashes()
    words = _WORD.findall(text)
    if not words:
        return np.empty(0, dtype=np.uint64)
    hashed = np.fromiter(map(word_hashes.__getitem__, words), np.uint64, len(words))
    width = min(ngram, len(hashed))
    grams = np.zeros(len(hashed) - width + 1, dtype=np.uint64)
    for position in range(width):
        grams = mix(grams + hashed[position : position + len(grams)] + _STEP)
    return np.unique(grams)


def jaccard(a: Hashes, b: Hashes) -> float:
    """Returns the size of the intersection over that of the union, of two sorted sets without repeats.

    Example:
        >>> jaccard(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64))
        0.5
    """
    if len(a) == 0 or len(b) == 0:
        return 0.0
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
