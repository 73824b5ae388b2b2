"""What several rules ask about one text, computed at most once: words, lines, letters."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.data.rules.sequences import Integers, Sequences
from ingot.data.rules.signs import SIGNS
from ingot.data.rules.words import Splitter

_LETTER, _NO_SIGN = 1, 2


@dataclass(frozen=True)
class WordCounts:
    """Counts of one text.

    Args:
        words: all words and signs.
        alphabetic: those with a letter of an alphabet in them.
        proper: those that are not just signs.
        letters: the characters of the proper ones.
    """

    words: int
    alphabetic: int
    proper: int
    letters: int


class Statistics:
    """Facts about a text, for rules to share.

    Args:
        text: as the rules shall judge it.
        splitter: what a word is.
    """

    def __init__(self, text: str, splitter: Splitter) -> None:
        self.text = text
        self.splitter = splitter

    @functools.cached_property
    def words(self) -> list[str]:
        """All words and signs, in order."""
        return self.splitter.words(self.text)

    @functools.cached_property
    def lines(self) -> list[str]:
        """The lines, at every kind of line end that Unicode knows."""
        return self.text.splitlines()

    @functools.cached_property
    def counts(self) -> WordCounts:
        """Counts of words."""
        edges = self._edges
        if len(edges) == 1:
            return WordCounts(0, 0, 0, 0)
        traits = np.bitwise_or.reduceat(_traits_of(self._codes), edges[:-1])
        proper = traits & _NO_SIGN != 0
        return WordCounts(
            words=len(traits),
            alphabetic=int(np.count_nonzero(traits & _LETTER)),
            proper=int(np.count_nonzero(proper)),
            letters=int((edges[1:] - edges[:-1])[proper].sum()),
        )

    @functools.cached_property
    def fewest_words(self) -> int:
        """So many words the text surely has: its runs between blanks, unless its words are known anyway."""
        return len(self.words) if "words" in self.__dict__ else len(self.text.split())

    @functools.cached_property
    def sequences(self) -> Sequences:
        """The sequences of words."""
        return Sequences(self._codes, self._edges)

    @functools.cached_property
    def _codes(self) -> NDArray[np.uint8] | NDArray[np.uint32]:
        """The code points of all words, without anything between words."""
        letters = "".join(self.words)
        if letters.isascii():
            return np.frombuffer(letters.encode("ascii"), dtype=np.uint8)
        return np.frombuffer(letters.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

    @functools.cached_property
    def _edges(self) -> Integers:
        """Where each word begins in these, and where the last one ends."""
        edges = np.zeros(len(self.words) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, self.words), np.int64, len(self.words)), out=edges[1:])
        return edges


def _traits_of(codes: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The traits of each code point of a text."""
    if codes.dtype == np.uint8:
        return _table(0x80)[codes]
    if codes.max(initial=0) < 0x10000:
        return _table(0x10000)[codes]
    # A table of all code points would take longer than most corpora: there are few different ones beyond.
    distinct, places = np.unique(codes, return_inverse=True)
    return np.fromiter(map(_traits, map(chr, distinct.tolist())), np.uint8, len(distinct))[places]


@functools.cache
def _table(limit: int) -> NDArray[np.uint8]:
    """The traits of each code point below the limit."""
    return np.fromiter(map(_traits, map(chr, range(limit))), np.uint8, limit)


def _traits(character: str) -> int:
    return (_LETTER if character.isalpha() else 0) | (0 if character in SIGNS else _NO_SIGN)
