"""Lattices: all ways to cut many words into pieces at once, for training a unigram model.

```
 words      | l o w | l o |          '|' also is the end of the word before it
 node       0 1 2 3 4 5 6 7
 an edge      >-->                   "lo", from node 1 to node 3
```

An edge is a place where a piece stands in a word; a path from a word's first node to its end is a
segmentation. The edges of all words are sorted by how deep in its word their end lies, so one step of a
dynamic programme is one array operation over all words.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.tokenizer.words import Ints

Reals = NDArray[np.float64]

_SURE = 1e-12  # what is left to other segmentations where rounding leaves nothing


@dataclass(frozen=True)
class Expectation:
    """What the model in hand expects of the text.

    Args:
        counts: how often each piece is used, over all segmentations. [pieces]
        losses: how much log-likelihood goes when a piece goes: at each of its places the segmentations
            without it remain. [pieces]
        log_likelihood: of the text.
    """

    counts: Reals
    losses: Reals
    log_likelihood: float


class Lattices:
    """The segmentations of counted words.

    Args:
        starts: node where each edge begins. [edges]
        ends: node where it ends. [edges]
        pieces: which piece it is. [edges]
        first: the first node of each word. [words]
        last: the node of its end. [words]
        counts: how often each word occurs. [words]
    """

    def __init__(
        self, starts: Ints, ends: Ints, pieces: Ints, first: Ints, last: Ints, counts: NDArray[np.int64]
    ) -> None:
        self._first, self._last, self._counts = first, last, counts.astype(np.float64)
        self._nodes = int(last.max(initial=-1)) + 1
        depth = ends - first[np.searchsorted(first, starts, side="right") - 1]
        order = np.lexsort((ends, depth))
        self._starts, self._ends, self._pieces = starts[order], ends[order], pieces[order]
        self._depth = depth[order]

    def __len__(self) -> int:
        """Edges of all lattices."""
        return len(self._starts)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Takes pieces out, and numbers those that stay anew, in order.

        Args:
            kept: whether each piece stays. [pieces]
        """
        number = np.cumsum(kept, dtype=np.int32) - np.int32(1)
        stay = kept[self._pieces]
        self._starts, self._ends, self._depth = self._starts[stay], self._ends[stay], self._depth[stay]
        self._pieces = number[self._pieces[stay]]

    def expect(self, scores: Reals) -> Expectation:
        """Runs forward, then backward, over all segmentations.

        Args:
            scores: log-probability of every piece. [pieces]
        """
        steps = self._steps()
        paths = np.full(self._nodes, -np.inf)  # log of the probability of all ways to a node
        paths[self._first] = 0.0
        for step in steps:
            ends = self._ends[step]
            ways = paths[self._starts[step]] + scores[self._pieces[step]]
            opens = np.flatnonzero(np.concatenate(([True], ends[1:] != ends[:-1])))
            most = np.maximum.reduceat(ways, opens)
            sizes = np.diff(np.concatenate((opens, [len(ends)])))
            sums = np.add.reduceat(np.exp(ways - np.repeat(most, sizes)), opens)
            paths[ends[opens]] = most + np.log(sums)

        counts, losses = np.zeros(len(scores)), np.zeros(len(scores))
        weights = np.repeat(0.0, self._nodes)  # how often a path of the text leads through a node
        weights[self._last] = self._counts
        total = np.zeros(self._nodes)  # how often the word of a node occurs
        total[self._last] = self._counts
        for step in reversed(steps):
            starts, ends, pieces = self._starts[step], self._ends[step], self._pieces[step]
            share = np.exp(paths[starts] + scores[pieces] - paths[ends])
            flow = weights[ends] * share
            np.add.at(weights, starts, flow)
            np.add.at(counts, pieces, flow)
            occurs = total[ends]
            total[starts] = occurs
            chance = np.divide(flow, occurs, out=np.zeros_like(flow), where=occurs > 0)
            np.add.at(losses, pieces, -occurs * np.log(np.maximum(1 - chance, _SURE)))
        return Expectation(counts, losses, float(self._counts @ paths[self._last]))

    def _steps(self) -> list[slice]:
        """The edges that end at each depth."""
        cuts = [0, *(np.flatnonzero(np.diff(self._depth)) + 1).tolist(), len(self._depth)]
        return [slice(low, high) for low, high in itertools.pairwise(cuts) if high > low]
