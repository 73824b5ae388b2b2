"""Hashes of every span of a sequence at once: bytes to words, words to n-grams, characters to blocks.

A span's hash is its polynomial in a fixed odd number, modulo 2^64 (Karp and Rabin 1987). A running sum gives
all of them: the sum up to the end, less the sum up to the start, divided by the power that the start brought
in. The same values give the same hash wherever they stand. Where the values are no hashes themselves, the
result wants mixing: the low bits of small numbers are not random.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

PIECE = 2**18
"""Values that are hashed in one go: with their powers they stay near the processor."""

_BASE = 0xD1342543DE82EF95
_INVERSE = pow(_BASE, -1, 2**64)


class Sums:
    """The running sum of a sequence, from which the hash of any span follows.

    Args:
        values: [n] unsigned numbers, at most a few `PIECE`s.
    """

    def __init__(self, values: NDArray[np.unsignedinteger]) -> None:
        powers, self._inverses = _powers(len(values).bit_length())
        self._sums = np.zeros(len(values) + 1, dtype=np.uint64)
        # Counted from 1: a 0 has no weight in a polynomial, and runs of it would hash alike at any length.
        np.cumsum((values + np.uint64(1)) * powers[: len(values)], out=self._sums[1:])

    def spans(self, starts: Places, ends: Places) -> Hashes:
        """Returns the hash [m] of each span from `starts` [m] up to before `ends` [m]."""
        found = self._sums[ends]
        found -= self._sums[starts]
        found *= self._inverses[starts]
        return found

    def windows(self, width: int) -> Hashes:
        """Returns the hash [n - width + 1] of the run of `width` values at each place; none if too few."""
        found = self._sums[width:] - self._sums[: max(0, len(self._sums) - width)]
        found *= self._inverses[: len(found)]
        return found


def windows(values: NDArray[np.unsignedinteger], width: int) -> Hashes:
    """Hashes every run of `width` values of a sequence of any length.

    Args:
        values: [n] unsigned numbers.
        width: from 1 on.

    Returns:
        [n - width + 1] uint64, of the run that starts at each place; none if there are too few values.
    """
    starts = range(0, max(1, len(values) - width + 1), PIECE)
    found = [Sums(values[start : start + PIECE + width - 1]).windows(width) for start in starts]
    return found[0] if len(found) == 1 else np.concatenate(found)


@functools.lru_cache(maxsize=24)
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """The first 2^bits powers of the base, and of its inverse."""
    tables = []
    for base in (_BASE, _INVERSE):
        table = np.ones(2**bits, dtype=np.uint64)
        for bit in range(bits):
            half = 2**bit
            table[half : 2 * half] = table[:half] * np.uint64(pow(base, half, 2**64))
        tables.append(table)
    return tables[0], tables[1]
