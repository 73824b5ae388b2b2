"""Words under merging: counted words as one long row of symbols, and how often each pair of neighbours is.

A corpus of millions of words has few distinct ones, so all work is on those. They lie in one array, a
separator between them; a token stands at the position of its first symbol, and the others of its positions
are dead. Merging a pair is then a handful of array operations over the places where it occurs:

```
 position   0  1  2  3  4  5  6  7
 symbols    |  l  o  w  |  l  o  |
 after lo   |  lo .  w  |  lo .  |        '|' separator, '.' dead
```

The places are found from where the rarer of the two tokens is, in lists that are cut down whenever they
are read. The next pair comes from a heap whose entries may be out of date: counts change under it. An entry
is checked when it is taken, and put back with its true count if that has sunk. Only the frequent pairs are
in the heap; when it is empty, the bar is lowered and it is filled anew.

All counts are 64-bit in the arrays and unbounded in the dictionary.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from ingot.errors import DataError

Pair = tuple[int, int]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

SEPARATOR = -1
"""Between words."""
UNKNOWN = -2
"""A symbol that the alphabet lacks: it is in no pair."""
_DEAD = -3
_HALF = (1 << 32) - 1
_KEY = (1 << 64) - 1
_MOST = (1 << 31) - 1  # positions that 32 bits can name
_PART = 1 << 18  # of the row, whose pairs are counted at a time
_LOWER = 4  # how far the bar of the heap is lowered at a time


class Words:
    """Counted words, a row of symbols.

    Args:
        symbols: ids of all words one after the other, `SEPARATOR` before, between and after them. [n]
        counts: how often each word occurs. [words]
        least: pairs that are rarer are forgotten at once (a count never grows).

    Attributes:
        size: tokens in all, each as often as its word occurs.

    Example:
        >>> words = Words(np.array([-1, 5, 6, 5, 6, -1]), np.array([10]))
        >>> words.best()
        (20, (5, 6))
        >>> words.merge((5, 6), 7)
        >>> words.size, words.best()
        (20, (10, (7, 7)))

    Raises:
        DataError: the words have more than two thousand million symbols.
    """

    def __init__(self, symbols: NDArray[np.signedinteger], counts: Longs, least: int = 1) -> None:
        if len(symbols) > _MOST:
            what = f"the different words have {len(symbols):,} symbols, more than {_MOST:,}"
            raise DataError(what, where="tokenizer training", fix="count with less memory, or less text")
        self._tokens: Ints = np.array(symbols, dtype=np.int32)
        self._counts: Longs = np.asarray(counts, dtype=np.int64)
        self._least = max(1, least)
        breaks = self._tokens == SEPARATOR
        self._word: Ints = np.cumsum(breaks, dtype=np.int32) - np.int32(1)  # of each position
        self._before: Ints = np.arange(-1, len(self._tokens) - 1, dtype=np.int32)  # start of the token before
        self._length: dict[int, int] = {}  # symbols in a token, 1 where it is not in here
        self._where = self._positions()
        starts = np.flatnonzero(~breaks)
        self.size = int(self._counts[self._word[starts]].sum())
        self._pairs = self._count()
        self._bar = max(self._pairs.values(), default=0) + 1
        self._heap: list[int] = []

    def _positions(self) -> dict[int, Ints]:
        """Where each symbol stands, in order."""
        few = self._tokens.max(initial=0) < 1 << 15  # short integers are sorted much faster
        order = np.argsort(self._tokens.astype(np.int16 if few else np.int32), kind="stable").astype(np.int32)
        symbols = self._tokens[order]
        cuts = np.flatnonzero(symbols[1:] != symbols[:-1]) + 1
        parts = [part for part in np.split(order, cuts) if len(part) and self._tokens[part[0]] >= 0]
        return {int(self._tokens[part[0]]): part for part in parts}

    def _count(self) -> dict[int, int]:
        """How often each pair occurs, by left << 32 | right."""
        pairs: dict[int, int] = {}
        for start in range(0, len(self._tokens) - 1, _PART):
            left, right = self._tokens[start : start + _PART], self._tokens[start + 1 : start + 1 + _PART]
            at = np.flatnonzero((left[: len(right)] >= 0) & (right >= 0))
            keys = left[at].astype(np.int64) << 32 | right[at]
            for key, count in _sums(keys, self._counts[self._word[start:][at]]):
                pairs[key] = pairs.get(key, 0) + count
        return {key: count for key, count in pairs.items() if count >= self._least}

    def count(self, pair: Pair) -> int:
        """How often a pair occurs; 0 where it is rarer than `least`, or was forgotten."""
        return self._pairs.get(pair[0] << 32 | pair[1], 0)

    def best(self) -> tuple[int, Pair] | None:
        """Returns the most frequent pair and its count; among equals the one with the smallest ids.

        None where no pair is left that occurs `least` times.
        """
        heap, pairs = self._heap, self._pairs
        while True:
            while heap:
                entry = heap[0]
                key = entry & _KEY
                count = pairs.get(key, 0)
                if count == -(entry >> 64):
                    return count, (key >> 32, key & _HALF)
                heapq.heappop(heap)
                if count >= self._bar:
                    heapq.heappush(heap, (-count << 64) + key)
            if self._bar <= self._least:
                return None
            self._bar = max(self._least, self._bar // _LOWER)
            heap.extend((-count << 64) + key for key, count in pairs.items() if count >= self._bar)
            heapq.heapify(heap)

    def forget(self, pair: Pair) -> None:
        """Takes a pair out of the choice: it will not be the best again."""
        self._pairs.pop(pair[0] << 32 | pair[1], None)

    def merge(self, pair: Pair, token: int) -> None:
        """Replaces a pair by a token everywhere, from left to right in each word.

        Args:
            pair: ids of the left and the right token; it need not occur.
            token: a new id.
        """
        left, right = pair
        width = self._length.get(left, 1)
        self._length[token] = length = width + self._length.get(right, 1)
        start = self._find(left, right, width)
        self._where[token] = start
        if not len(start):
            return
        tokens = self._tokens
        after = start + length
        before = tokens[self._before[start]]
        behind = tokens[after]
        counts = self._counts[self._word[start]]

        tokens[start] = token
        tokens[start + width] = _DEAD
        self._before[after] = start
        self.size -= int(counts.sum())

        gone = fresh = _sums(before, counts)  # the token before each place, and how often
        touching = np.flatnonzero(start[1:] == after[:-1])  # a place right behind another
        if len(touching):
            before[touching + 1] = token
            fresh = _sums(before, counts)
            behind[touching] = SEPARATOR  # that pair is counted already, as the one before the next place
        for other, count in gone:
            self._lessen(other << 32 | left, count)
        for other, count in fresh:
            self._add(other << 32 | token, count)
        for other, count in _sums(behind, counts):
            self._lessen(right << 32 | other, count)
            self._add(token << 32 | other, count)
        self.forget(pair)

    def _find(self, left: int, right: int, width: int) -> Ints:
        """Where a pair is to be merged: the positions of its left token, in order."""
        tokens = self._tokens
        lefts, rights = self._where.get(left, _NOWHERE), self._where.get(right, _NOWHERE)
        if len(lefts) <= len(rights):
            self._where[left] = start = lefts[tokens[lefts] == left]
            start = start[tokens[start + width] == right]
        else:
            self._where[right] = end = rights[tokens[rights] == right]
            start = self._before[end]
            start = start[tokens[start] == left]
        return _every_other(start, width) if left == right else start

    def _lessen(self, key: int, by: int) -> None:
        """Some places of a pair are gone."""
        count = self._pairs.get(key, 0) - by
        if count >= self._least:
            self._pairs[key] = count
        else:
            self._pairs.pop(key, None)

    def _add(self, key: int, count: int) -> None:
        """A pair has come up: its second token, or its first, is new."""
        if count >= self._least and key >= 0:
            self._pairs[key] = count
            if count >= self._bar:
                heapq.heappush(self._heap, (-count << 64) + key)


_NOWHERE: Ints = np.empty(0, np.int32)


def _every_other(start: Ints, width: int) -> Ints:
    """Of places that overlap (aaa holds aa twice) those that are merged: the first, the third, ..."""
    if len(start) < 2:
        return start
    index = np.arange(len(start))
    opens = np.empty(len(start), bool)
    opens[0] = True
    np.not_equal(start[1:] - start[:-1], width, out=opens[1:])
    return start[(index - np.maximum.accumulate(np.where(opens, index, 0))) % 2 == 0]


def _sums(keys: NDArray[np.signedinteger], counts: Longs) -> list[tuple[int, int]]:
    """Each different key with the sum of its counts, in order, as Python's unbounded integers."""
    order = keys.argsort(kind="stable")
    keys = keys[order]
    first = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    first = np.concatenate((_FIRST[: len(keys)], first))
    sums = np.add.reduceat(counts[order], first)
    return list(zip(keys[first].tolist(), sums.tolist(), strict=True))


_FIRST = np.zeros(1, np.int64)
