"""Ranks and merges: two ways to write BPE down, and when they say the same.

A merge list names the pairs to join, in order. Ranks only name the joined tokens: any two neighbours that
together are a token may join, lowest rank first. The list (b,c), (a,b), (ab,c) makes "abc" into a, bc,
whereas by ranks abc would come of it. `by_rank` finds out whether ranks do for a list, `merges_of` finds
the list that ranks stand for.

Both rest on one fact: if merges are learned after their parts, encoding goes through the list in order,
and two tokens can be neighbours at some point of it only if no earlier merge crosses the border between
them. That is decided from the two tokens alone, by taking their own merges back, latest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from ingot.tokenizer.loop import merge

Merge = tuple[int, int, int]
"""Ids of the left part, the right part, and the joined token."""

Text = TypeVar("Text", str, bytes)


class Order:
    """Merges in the order in which they happen, each learned after its parts.

    Args:
        atoms: ids of the single bytes or characters.
    """

    def __init__(self, atoms: Iterable[int]) -> None:
        self.rank = dict.fromkeys(atoms, -1)
        self.parts: dict[int, tuple[int, int]] = {}
        self._merges: dict[tuple[int, int], int] = {}

    def add(self, left: int, right: int, token: int) -> None:
        """Puts a merge at the end."""
        rank = len(self.parts)
        self._merges[left, right] = rank
        self.rank[token] = rank
        self.parts[token] = (left, right)

    def can_meet(self, left: int, right: int) -> bool:
        """Whether two tokens can be neighbours when all merges so far have happened."""
        limit = len(self.parts) + 1
        while True:
            crossing = self._merges.get((left, right))
            if crossing is not None and crossing < limit:
                return False
            if self.rank[left] > self.rank[right]:
                limit = self.rank[left]
                left = self.parts[left][1]
            elif self.rank[right] < 0:
                return True
            else:
                limit = self.rank[right] + 1  # at equal rank the border, being further left, comes first
                right = self.parts[right][0]


def by_rank(merges: Sequence[Merge], atoms: Iterable[int]) -> list[int] | None:
    """Finds ranks that encode as a merge list does.

    Args:
        merges: the list.
        atoms: ids of the single bytes or characters.

    Returns:
        The ids of the tokens that encoding can arrive at, lowest rank first, without the atoms; None
        where no ranks do the same.
    """
    order = Order(atoms)
    for left, right, token in merges:
        if left not in order.rank or right not in order.rank:
            return None
        if token not in order.rank and order.can_meet(left, right):
            order.add(left, right, token)
    return list(order.parts)


def merges_of(ranks: Mapping[Text, int]) -> list[Merge]:
    """Finds the merge list that ranks stand for.

    Args:
        ranks: token, as text or bytes -> its rank.

    Returns:
        Merges of ranks, in order of rank: one for each token that encoding can arrive at. Where a token comes
        before its own parts, which no trainer does, all ways to make every token; of ways that are equally
        good, the list then takes one before the other, where ranks go from left to right.

    Example:
        >>> merges_of({"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4, "abc": 5})
        [(1, 2, 3), (0, 1, 4), (0, 3, 5)]
    """
    order = Order(rank for token, rank in ranks.items() if len(token) == 1)
    found: list[Merge] = []
    left_out: list[Text] = []
    longer = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    for token in longer:
        for left, right in _halves(token, ranks):
            if left in order.rank and right in order.rank and order.can_meet(left, right):
                order.add(left, right, ranks[token])
                found.append((left, right, ranks[token]))
                break
        else:
            left_out.append(token)
    if not any(_is_reached(token, ranks) for token in left_out):
        return found
    return [(left, right, ranks[token]) for token in longer for left, right in _halves(token, ranks)]


def _halves(token: Text, ids: Mapping[Text, int]) -> Iterable[tuple[int, int]]:
    """All ways to make a token of two others."""
    for middle in range(1, len(token)):
        left, right = ids.get(token[:middle]), ids.get(token[middle:])
        if left is not None and right is not None:
            yield left, right


def _is_reached(token: Text, ranks: Mapping[Text, int]) -> bool:
    """Whether a token is what its own text becomes by ranks."""
    parts = {token[start:stop] for start in range(len(token)) for stop in range(start + 1, len(token) + 1)}
    merges = {
        pair: (ranks[part], ranks[part])
        for part in parts
        if part in ranks and len(part) > 1
        for pair in _halves(part, ranks)
    }
    atoms = [ranks[atom] for place in range(len(token)) if (atom := token[place : place + 1]) in ranks]
    return len(atoms) == len(token) and merge(atoms, merges) == [ranks[token]]
