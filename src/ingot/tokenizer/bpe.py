"""Byte-level BPE training: merge the most frequent pair of neighbouring tokens, again and again.

Gage 1994; Sennrich, Haddow and Birch 2016 (arXiv 1508.07909), on bytes as in GPT-2. A corpus of millions
of words has few distinct pieces, so all work is on those: how often each piece occurs, how often each pair
of tokens occurs, and which pieces hold it. A merge touches only the pieces that hold its pair.

The next pair comes from a heap whose entries may be out of date: counts change under it. An entry is
checked when it is taken, and put back with its true count if that has sunk; pairs that a merge makes are
put in afresh. Among equal counts the pair with the smallest ids wins, as in the `tokenizers` library, so
that the merges are the same as from its trainer.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping

from ingot.progress import Task
from ingot.tokenizer.bytes import BYTE_ORDER

Pair = tuple[int, int]

MIN_FREQUENCY = 2
"""A pair that occurs once is no pattern: training stops there, even short of the number asked."""


def train(pieces: Mapping[str, int], merges: int, task: Task | None = None) -> list[Pair]:
    """Learns merges from counted pieces.

    Args:
        pieces: text piece -> how often it occurs.
        merges: how many merges to learn at most.
        task: is told of every merge.

    Returns:
        Pairs of token ids; merge i makes token 256 + i. Fewer than asked where no pair is left that occurs
        at least twice.

    Example:
        >>> train({"aaa": 3}, merges=2)    # "a" is id 64: aa, then aa+a
        [(64, 64), (256, 64)]
    """
    task = task or Task()
    words, counts = _as_tokens(pieces)
    pair_counts, holders = _index(words, counts)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)

    learned: list[Pair] = []
    while len(learned) < merges and heap:
        negative, pair = heapq.heappop(heap)
        count = pair_counts[pair]
        if count != -negative:
            if count > 0:
                heapq.heappush(heap, (-count, pair))
            continue
        if count < MIN_FREQUENCY:
            break
        token = 256 + len(learned)
        learned.append(pair)
        grown: set[Pair] = set()
        for index in holders.pop(pair):
            changes = _merge(words[index], pair, token)
            for changed, difference in changes:
                pair_counts[changed] += difference * counts[index]
                if difference > 0:
                    holders[changed].add(index)
                    grown.add(changed)
        del pair_counts[pair]
        for new in grown:
            if new != pair and pair_counts[new] > 0:
                heapq.heappush(heap, (-pair_counts[new], new))
        task.advance()
    return learned


def _as_tokens(pieces: Mapping[str, int]) -> tuple[list[list[int]], list[int]]:
    """Every distinct piece of two bytes or more as a list of token ids, and its count."""
    id_of = bytearray(256)
    for token, byte in enumerate(BYTE_ORDER):
        id_of[byte] = token
    table = bytes(id_of)
    words, counts = [], []
    for piece, count in pieces.items():
        encoded = piece.encode("utf-8", errors="replace").translate(table)
        if len(encoded) > 1:
            words.append(list(encoded))
            counts.append(count)
    return words, counts


def _index(words: list[list[int]], counts: list[int]) -> tuple[Counter[Pair], defaultdict[Pair, set[int]]]:
    """How often each pair occurs, and the indexes of the words that hold it."""
    pair_counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in itertools.pairwise(word):
            pair_counts[pair] += count
            holders[pair].add(index)
    return pair_counts, holders


def _merge(word: list[int], pair: Pair, token: int) -> list[tuple[Pair, int]]:
    """Replaces the pair in the word, left to right, and returns which pairs came (+1) and went (-1)."""
    left, right = pair
    changes: list[tuple[Pair, int]] = []
    position = 0
    while True:
        try:
            position = word.index(left, position, len(word) - 1)
        except ValueError:
            return changes
        if word[position + 1] != right:
            position += 1
            continue
        if position > 0:
            before = word[position - 1]
            changes += (((before, left), -1), ((before, token), +1))
        if position + 2 < len(word):
            after = word[position + 2]
            changes += (((right, after), -1), ((token, after), +1))
        word[position : position + 2] = [token]
        position += 1
