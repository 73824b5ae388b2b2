"""Keyed permutations: an order of n things as a pure function of a key, asked for one place at a time.

A Feistel network permutes the numbers of 2k bits whatever its round function is (Luby and Rackoff 1988);
places that land at n or beyond are sent through again until they land below it (cycle walking, Black and
Rogaway 2002). Nothing is stored, nothing is shuffled, and no library's generator can change it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_SMALLEST_HALF = 3  # bits; over fewer, a network reaches the even permutations only, and it shows
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL = 2**64 - 1


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads every bit of each number over all 64: SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND)
    return x ^ (x >> np.uint64(31))


def key(*parts: int) -> int:
    """Makes one 64-bit key of several numbers, such as a seed and an epoch."""
    value = 0
    for part in parts:
        # `mix`, of one number: an array of one would take ten times as long, and trainers ask every step.
        value = (value + (part & _ALL) + _GOLDEN) & _ALL
        value = (value ^ (value >> 30)) * _FIRST & _ALL
        value = (value ^ (value >> 27)) * _SECOND & _ALL
        value ^= value >> 31
    return value


def permute(places: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """Returns which thing stands at each place.

    Args:
        places: [m] int64, each from 0 up to below n.
        n: how many things there are.
        key: another key is another order.

    Returns:
        [m] int64; over all places, every thing once.

    Example:
        >>> sorted(permute(np.arange(5), 5, key=7).tolist())
        [0, 1, 2, 3, 4]
    """
    if len(places) and not (places.min() >= 0 and places.max() < n):
        raise IndexError(f"places must be from 0 to {n - 1}")
    half = np.uint64(max(_SMALLEST_HALF, ((n - 1).bit_length() + 1) // 2))
    things = places.astype(np.uint64)
    pending = np.arange(len(things))
    while len(pending):
        things[pending] = _feistel(things[pending], half, key)
        pending = pending[things[pending] >= n]
    return things.astype(np.int64)


def _feistel(x: NDArray[np.uint64], half: np.uint64, key: int) -> NDArray[np.uint64]:
    """One pass over the numbers of twice `half` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for turn in range(_ROUNDS):
        round_key = np.uint64((key + turn * _GOLDEN) & _ALL)
        left, right = right, left ^ (mix(right + round_key) & mask)
    return (left << half) | right
