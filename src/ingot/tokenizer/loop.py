"""The merge loop: of all neighbours that a merge list knows, join those of the earliest merge, and again.

The plain definition of BPE encoding (Sennrich, Haddow and Birch 2016, arXiv 1508.07909), with a heap, so
that a text without any cut costs n log n. It obeys the list itself, where tiktoken asks only which
joined token has the lowest rank; `ranks` knows when both are the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""Pair of neighbouring ids -> rank of their merge, id of the joined token."""


def merge(ids: Sequence[int], merges: Merges, drop: Callable[[], bool] | None = None) -> list[int]:
    """Joins neighbours until no merge fits.

    Equal merges go from left to right. With `drop` this is BPE-dropout (Provilkov, Emelianenko and Voita
    2020, arXiv 1910.13267): at each step every candidate that comes up may be passed over.

    Args:
        ids: of characters or bytes.
        merges: the merge list.
        drop: says whether to pass over a candidate this time; None never does.

    Returns:
        The ids that are left.

    Example:
        >>> merge([1, 2, 3], {(2, 3): (0, 4), (1, 2): (1, 5)})
        [1, 4]
    """
    tokens = list(ids)
    count = len(tokens)
    following = list(range(1, count + 1))
    before = list(range(-1, count - 1))
    heap: list[tuple[int, int, int]] = []
    for place in range(count - 1):
        found = merges.get((tokens[place], tokens[place + 1]))
        if found:
            heap.append((found[0], place, found[1]))
    heapq.heapify(heap)
    passed: list[tuple[int, int, int]] = []
    while heap:
        candidate = heapq.heappop(heap)
        if drop is not None:
            if drop():
                passed.append(candidate)
                continue
            for one in passed:
                heapq.heappush(heap, one)
            passed.clear()
        _, place, joined = candidate
        right = following[place]
        if tokens[place] < 0 or right >= count:
            continue
        found = merges.get((tokens[place], tokens[right]))
        if found is None or found[1] != joined:
            continue  # another merge was here first
        tokens[place], tokens[right] = joined, -1
        after = following[place] = following[right]
        if after < count:
            before[after] = place
            found = merges.get((joined, tokens[after]))
            if found:
                heapq.heappush(heap, (found[0], place, found[1]))
        left = before[place]
        if left >= 0:
            found = merges.get((tokens[left], joined))
            if found:
                heapq.heappush(heap, (found[0], left, found[1]))
    return [token for token in tokens if token >= 0]
