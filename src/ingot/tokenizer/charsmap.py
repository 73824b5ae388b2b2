"""SentencePiece's compiled normalisation: a map from strings to strings as a double-array trie.

The format (Kudo and Richardson 2018, arXiv 1808.06226, section 3.2; Aoe 1989 for the trie): four bytes
with the size of the trie, its units of 32 bits, then the replacements as UTF-8, each ended by a zero
byte. At every place of a text the longest string that the map knows is replaced.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable

from ingot.tokenizer.reading import refuse


def read_charsmap(encoded: str | None, where: str) -> Callable[[str], str]:
    """Makes the function that a `precompiled_charsmap` stands for.

    Args:
        encoded: base64 of the map; empty changes nothing.
        where: its place, for errors.

    Raises:
        ArtifactError: it is not base64, or cut off.
    """
    try:
        blob = base64.b64decode(encoded or "", validate=True)
    except (binascii.Error, ValueError):
        raise refuse("the character map is not base64", where) from None
    return Charsmap(blob, where).normalise if blob else (lambda text: text)


class Charsmap:
    """A character map.

    Args:
        blob: as in a SentencePiece model.
        where: its place, for errors.

    Raises:
        ArtifactError: the sizes in it do not fit.
    """

    def __init__(self, blob: bytes, where: str) -> None:
        size = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else len(blob)
        if size % 4 or size == 0 or 4 + size > len(blob):
            raise refuse("the character map is cut off", where)
        self._units = struct.unpack_from(f"<{size // 4}I", blob, 4)
        self._replacements = blob[4 + size :]
        self._starts = {byte for byte in range(256) if self._step(self._root(), byte) is not None}

    def normalise(self, text: str) -> str:
        """Replaces, left to right, the longest string that the map knows at each place."""
        data = text.encode("utf-8", errors="replace")
        out, position, kept = [], 0, 0
        while position < len(data):
            if data[position] in self._starts:
                length, value = self._longest(data, position)
                if length:
                    out += [data[kept:position], self._replacement(value)]
                    position += length
                    kept = position
                    continue
            position += 1
            while position < len(data) and data[position] & 0xC0 == 0x80:
                position += 1
        out.append(data[kept:])
        return b"".join(out).decode("utf-8", errors="replace")

    def _root(self) -> int:
        return self._offset(self._units[0])

    @staticmethod
    def _offset(unit: int) -> int:
        return (unit >> 10) << ((unit & 0x200) >> 6)

    def _step(self, node: int, byte: int) -> int | None:
        """The index of the unit that a byte leads to."""
        place = node ^ byte
        if place >= len(self._units) or self._units[place] & 0x800000FF != byte:
            return None
        return place

    def _longest(self, data: bytes, position: int) -> tuple[int, int]:
        """Length and value of the longest known string at a place; length 0 for none."""
        node, best = self._root(), (0, 0)
        for length, byte in enumerate(data[position : position + 64], 1):
            place = self._step(node, byte)
            if place is None:
                break
            node = place ^ self._offset(self._units[place])
            if self._units[place] & 0x100 and node < len(self._units):
                best = (length, self._units[node] & 0x7FFFFFFF)
        return best

    def _replacement(self, start: int) -> bytes:
        stop = self._replacements.find(b"\0", start)
        return self._replacements[start:stop] if stop >= 0 else b""
