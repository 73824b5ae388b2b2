"""A growing set of 64-bit hashes in little more than its bytes: sorted runs, merged as they grow.

What is added becomes a sorted run; runs of like size are merged, as in a log-structured tree (O'Neil et al.
1996), so that there are few of them and each hash is moved a few times only. A Bloom filter stands in front.
About 10 bytes for a hash, 18 with a value; a Python set takes 80 or more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ingot.data.dedup.filter import Filter
from ingot.data.dedup.rolling import Hashes, Places

_RATIO = 4  # a run is merged with the one before unless that one is this many times as long
_CAPACITY = 2**12


class _Run(NamedTuple):
    hashes: Hashes  # sorted
    values: Hashes  # of the same order, or empty


class Runs:
    """Hashes, each with a 64-bit value or all without.

    Example:
        >>> seen = Runs()
        >>> seen.add(np.array([7, 5], np.uint64))
        >>> seen.contains(np.array([5, 6], np.uint64)).tolist()
        [True, False]
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._filter = Filter(_CAPACITY)

    def __len__(self) -> int:
        return sum(len(run.hashes) for run in self._runs)

    def add(self, hashes: Hashes, values: Hashes | None = None) -> None:
        """Puts hashes [n] in, with their values [n]; one that is in already is in twice."""
        if len(hashes) == 0:
            return
        empty = np.empty(0, dtype=np.uint64)
        run = _sorted(hashes.astype(np.uint64), empty if values is None else values.astype(np.uint64))
        while self._runs and len(self._runs[-1].hashes) < _RATIO * len(run.hashes):
            before = self._runs.pop()
            joined = (np.concatenate(pair) for pair in zip(before, run, strict=True))
            run = _sorted(*joined)
        self._runs.append(run)
        if len(self) > self._filter.capacity:
            self._filter = Filter(2 * len(self))
            for one in self._runs:
                self._filter.add(one.hashes)
        else:
            self._filter.add(hashes)

    def contains(self, hashes: Hashes) -> np.ndarray:
        """Returns [n] bool: which of the hashes [n] are in."""
        found = np.zeros(len(hashes), dtype=bool)
        possible = self._filter.possible(hashes)
        for run in self._runs if len(possible) else ():
            wanted = hashes[possible]
            at = np.minimum(np.searchsorted(run.hashes, wanted), len(run.hashes) - 1)
            found[possible] |= run.hashes[at] == wanted
        return found

    def find(self, hashes: Hashes, most: int) -> tuple[Places, Hashes]:
        """Finds the values of hashes.

        Args:
            hashes: [n].
            most: values for each hash; of more, the first added are taken.

        Returns:
            Places [m] in `hashes`, ascending, and the value [m] of each match, in the order of adding.
        """
        possible = self._filter.possible(hashes)
        places, values = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint64)]
        for run in self._runs if len(possible) else ():  # the oldest first
            wanted = hashes[possible]
            at = np.searchsorted(run.hashes, wanted)
            for step in range(most):
                inside = np.flatnonzero(at + step < len(run.hashes))
                inside = inside[run.hashes[at[inside] + step] == wanted[inside]]
                if not len(inside):
                    break
                places.append(possible[inside])
                values.append(run.values[at[inside] + step])
        all_places = np.concatenate(places)
        order = np.argsort(all_places, kind="stable")
        all_places, all_values = all_places[order], np.concatenate(values)[order]
        rank = np.arange(len(all_places)) - np.searchsorted(all_places, all_places)
        return all_places[rank < most], all_values[rank < most]

    def all(self) -> Hashes:
        """Returns every hash, sorted."""
        return np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *(run.hashes for run in self._runs)]))


def _sorted(hashes: Hashes, values: Hashes) -> _Run:
    """A run in the order of its hashes, then of its values."""
    if len(values) == 0:
        return _Run(np.sort(hashes), values)
    order = np.argsort(hashes, kind="stable")
    return _Run(hashes[order], values[order])
