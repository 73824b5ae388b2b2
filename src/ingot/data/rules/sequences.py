"""Sequences of words that a text repeats, found by a rolling hash over its letters.

All words of a text, without what is between them, make one string of letters; a sequence of words is a piece
of it, and two sequences are taken as equal where their letters are. Any piece's hash is the difference of two
prefix sums (Karp and Rabin 1987), modulo 2**64, so that two different sequences of one document are taken for
equal with a chance below one in a million million. A sequence that repeats starts with letters that repeat:
only words from which on a window of letters occurs at another word too are looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Codes = NDArray[np.uint8] | NDArray[np.uint32]

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_WINDOW = 16  # letters


class Sequences:
    """The sequences of consecutive words of one text.

    Args:
        codes: [letters] code points of all words, one word after the other.
        ends: [words] where each word ends in these.
    """

    def __init__(self, codes: Codes, ends: Integers) -> None:
        self._ends = ends
        self._starts: Integers = np.concatenate([np.zeros(1, dtype=np.int64), ends])[:-1]
        powers, self._inverse = _powers(len(codes))
        self._sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        np.cumsum((codes + np.uint64(1)) * powers[: len(codes)], out=self._sums[1:])

    @functools.cached_property
    def most_frequent_pair(self) -> int:
        """How often the most frequent two words occur, at most: pairs with the same letters count as one."""
        if len(self._ends) < 2:
            return 0
        hashes = self._hashes(self._starts[:-1], self._ends[1:])
        hashes.sort()
        edges = np.flatnonzero(hashes[1:] != hashes[:-1])
        return int(np.diff(edges, prepend=-1, append=len(hashes) - 1).max())

    def longest(self, n: int) -> int:
        """Returns the letters of the longest sequence of n words."""
        return int(self._lengths(n).max(initial=0))

    def repeated_letters(self, sizes: Sequence[int]) -> list[int]:
        """Returns, for sequences of n words for each n, the letters in those that occurred before.

        They are found from left to right, and a repeated sequence is left behind as a whole, so that none
        of its letters counts twice: datatrove's reading of the Gopher paper (Rae et al. 2021, table A1).
        """
        firsts = [self._candidates(n) for n in sizes]
        limits = np.cumsum([0, *map(len, firsts)]).tolist()
        first = np.concatenate([np.zeros(0, dtype=np.int64), *firsts])
        size = np.repeat(np.array(sizes, dtype=np.int64), np.diff(limits))
        starts, ends = self._starts[first], self._ends[first + size - 1]
        hashes = self._hashes(starts, ends) + size.astype(np.uint64)  # of each size, among themselves
        several = _several(hashes)
        if not several.any():
            return [0] * len(sizes)
        lengths = ends - starts
        repeated = []
        for n, start, end in zip(sizes, limits[:-1], limits[1:], strict=True):
            rows = several[start:end]
            parts = (first[start:end][rows], hashes[start:end][rows], lengths[start:end][rows])
            repeated.append(_walk(n, *(part.tolist() for part in parts)))
        return repeated

    def _candidates(self, n: int) -> Integers:
        """First words of sequences that may occur twice."""
        lengths = self._lengths(n)
        return np.flatnonzero(self._suspects[: len(lengths)] | (lengths < _WINDOW))

    @functools.cached_property
    def _suspects(self) -> NDArray[np.bool_]:
        """Words from which on the next letters occur at another word too, or are too few to tell."""
        full = int(np.searchsorted(self._starts, len(self._sums) - 1 - _WINDOW, side="right"))
        found = np.ones(len(self._ends), dtype=np.bool_)
        starts = self._starts[:full]
        found[:full] = _several(self._hashes(starts, starts + _WINDOW))
        return found

    def _lengths(self, n: int) -> Integers:
        count = max(0, len(self._ends) - n + 1)
        return self._ends[len(self._ends) - count :] - self._starts[:count]

    def _hashes(self, starts: Integers, ends: Integers) -> Hashes:
        hashed: Hashes = (self._sums[ends] - self._sums[starts]) * self._inverse[starts]
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


def _several(hashes: Hashes) -> NDArray[np.bool_]:
    """Which values occur more than once."""
    ordered = np.sort(hashes)
    again = ordered[1:] == ordered[:-1]
    twice = ordered[1:][again]
    if len(twice) == 0:
        return np.zeros(len(hashes), dtype=np.bool_)
    place = np.searchsorted(twice, hashes)
    found: NDArray[np.bool_] = twice[np.minimum(place, len(twice) - 1)] == hashes
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
