"""A Bloom filter (Bloom 1970): says at once of most hashes that are not in a set that they are not."""

from __future__ import annotations

import numpy as np

from ingot.data.dedup.rolling import Hashes, Places

_BITS = 16  # for each hash; two of them are looked at: under 2 % of others pass
_SMALLEST = 10  # bits of an address


class Filter:
    """The set, as bits.

    Args:
        capacity: hashes that it holds before more than 2 % of others pass. 2 bytes each.
    """

    def __init__(self, capacity: int) -> None:
        self._address = max(_SMALLEST, (capacity * _BITS - 1).bit_length())
        self._bits = np.zeros(2 ** (self._address - 3), dtype=np.uint8)
        self.capacity = 2**self._address // _BITS

    def add(self, hashes: Hashes) -> None:
        """Puts hashes [n] in."""
        for byte, bit in (self._first(hashes), self._second(hashes)):
            np.bitwise_or.at(self._bits, byte, bit)

    def possible(self, hashes: Hashes) -> Places:
        """Returns the places [m] of those hashes [n] that may be in: all that are, and few others."""
        byte, bit = self._first(hashes)
        found = np.flatnonzero(self._bits[byte] & bit)
        if len(found):
            byte, bit = self._second(hashes[found])
            found = found[(self._bits[byte] & bit) != 0]
        return found

    def _first(self, hashes: Hashes) -> tuple[Hashes, np.ndarray]:
        return self._split(hashes >> np.uint64(64 - self._address))

    def _second(self, hashes: Hashes) -> tuple[Hashes, np.ndarray]:
        return self._split(hashes & np.uint64(2**self._address - 1))

    def _split(self, addresses: Hashes) -> tuple[Hashes, np.ndarray]:
        bits = np.left_shift(np.uint8(1), (addresses & np.uint64(7)).astype(np.uint8))
        return addresses >> np.uint64(3), bits
