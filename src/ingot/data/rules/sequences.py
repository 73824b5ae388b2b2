"""Sequences of words that a text repeats, found by a rolling hash over its letters.

All words of a text, without what is between them, make one string of letters; a sequence of words is a piece
of it, and two sequences are taken as equal where their letters are. Any piece's hash is the difference of two
prefix sums (Karp and Rabin 1987), modulo 2**64, so that two different sequences of one document are taken for
equal with a chance below one in a million million. Sorted, equal hashes are neighbours; most texts have so
few of them that no threshold can be broken, and nothing more is looked at.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Codes = NDArray[np.uint8] | NDArray[np.uint32]

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_WORD_BASE = np.uint64(0xD6E8FEB86659FD93)


class Sequences:
    """The sequences of consecutive words of one text.

    Args:
        codes: [letters] code points of all words, one word after the other.
        edges: [words + 1] where each word begins in these, and where the last one ends.
    """

    def __init__(self, codes: Codes, edges: Integers) -> None:
        self._edges = edges
        self._words = len(edges) - 1
        powers, inverse = _powers(len(codes))
        self._sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        np.cumsum((codes + np.uint64(1)) * powers[: len(codes)], out=self._sums[1:])
        self._at_edges = self._sums[edges]
        self._inverse = inverse[edges]

    @functools.cached_property
    def most_frequent_pair(self) -> int:
        """How often the most frequent two words occur, at most: pairs with the same letters count as one."""
        return int(_runs(self._hashes(2))[1].max(initial=0))

    def longest(self, n: int) -> int:
        """Returns the letters of the longest sequence of n words."""
        return int(self._lengths(n).max(initial=0))

    def top_letters(self, n: int, above: int = -1) -> int:
        """Returns the letters, with blanks between words, of all occurrences of the most frequent sequence.

        Sequences are equal here where their words are; of equally frequent ones it is the first in the text.

        Args:
            n: words of a sequence.
            above: 0 may be returned where no more letters than these are found.
        """
        count = self._words - n + 1
        if count < 1:
            return 0
        longest = self.longest(n) + n - 1
        if n > 1 and self.most_frequent_pair * longest <= above:
            return 0  # n words recur no oftener than two of them do
        words = self._hashes(1)
        hashes = words[:count].copy()
        for place in range(1, n):
            hashes *= _WORD_BASE
            hashes += words[place : place + count]
        values, often = _runs(hashes)
        most = int(often.max())
        if most * longest <= above:
            return 0
        first = int(_among(hashes, values[often == most]).argmax()) if most > 1 else 0
        return int(self._edges[first + n] - self._edges[first] + n - 1) * most

    def repeated_letters(self, n: int, above: int = -1) -> int:
        """Returns the letters in sequences of n words that occurred before.

        They are found from left to right, and a repeated sequence is left behind as a whole, so that none
        of its letters counts twice: datatrove's reading of the Gopher paper (Rae et al. 2021, table A1).

        Args:
            n: words of a sequence.
            above: 0 may be returned where no more letters than these are found.
        """
        hashes = self._hashes(n)
        ordered = np.sort(hashes)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(again) == 0 or len(again) * self.longest(n) <= above:
            return 0
        several = np.flatnonzero(_among(hashes, again))
        lengths = self._edges[several + n] - self._edges[several]
        return _walk(n, several.tolist(), hashes[several].tolist(), lengths.tolist())

    def _lengths(self, n: int) -> Integers:
        """The letters of each sequence of n words."""
        return self._edges[n:] - self._edges[: max(0, self._words - n + 1)]

    def _hashes(self, n: int) -> Hashes:
        """The hash of the letters of each sequence of n words."""
        count = max(0, self._words - n + 1)
        hashed: Hashes = (self._at_edges[n:] - self._at_edges[:count]) * self._inverse[:count]
        return hashed


def _walk(n: int, firsts: list[int], hashes: list[int], lengths: list[int]) -> int:
    """Letters in sequences that occurred before, of those that occur more than once at all."""
    known: set[int] = set()
    repeated, free = 0, 0
    for first, hashed, length in zip(firsts, hashes, lengths, strict=True):
        if first < free:
            continue
        if hashed in known:
            repeated += length
            free = first + n
        else:
            known.add(hashed)
    return repeated


def _runs(hashes: Hashes) -> tuple[Hashes, Integers]:
    """The different values, ascending, and how often each occurs."""
    ordered = np.sort(hashes)
    ends = np.flatnonzero(ordered[1:] != ordered[:-1])
    edges = np.empty(len(ends) + 2, dtype=np.int64)
    edges[0], edges[1:-1], edges[-1] = 0, ends + 1, len(hashes)
    return ordered[edges[:-1]] if len(hashes) else ordered, edges[1:] - edges[:-1]


def _among(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """Which of these are among others, which are sorted and one at least."""
    place = known.searchsorted(hashes)
    place[place == len(known)] = 0
    found: NDArray[np.bool_] = known[place] == hashes
    return found


_tables: list[tuple[Hashes, Hashes]] = []


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The powers of the base and of its inverse modulo 2**64, `count` of them or more."""
    if not _tables or len(_tables[0][0]) < count + 1:
        size = max(1 << 14, 1 << (count + 1).bit_length())
        _tables[:] = [(_raised(_BASE, size), _raised(pow(_BASE, -1, 1 << 64), size))]
    return _tables[0]


def _raised(base: int, size: int) -> Hashes:
    factors = np.full(size, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
