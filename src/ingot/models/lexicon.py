"""Words and how often they stand in a text, and a text as one row of their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.errors import DataError


class Lexicon:
    """Words by number, the most frequent first.

    Args:
        words: all different.
        counts: [n] int64, of each.
    """

    def __init__(self, words: Sequence[str], counts: NDArray[np.int64]) -> None:
        self.words = list(words)
        self.counts = counts
        self.index = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def count(cls, sentences: Iterable[Sequence[str]], least: int = 5) -> Lexicon:
        """Counts the words of sentences.

        Args:
            sentences: lists of words.
            least: how often a word must stand there to be kept.

        Raises:
            DataError: no word does.

        Example:
            >>> Lexicon.count([["b", "a"], ["a"]], least=1).words
            ['a', 'b']
        """
        counted = Counter(chain.from_iterable(sentences))
        kept = sorted((-n, word) for word, n in counted.items() if n >= least)
        if not kept:
            what = f"none of {len(counted):,} words stands there {least} times"
            raise DataError(what, where="word vectors", fix="give more text or a smaller `least`")
        return cls([word for _, word in kept], np.array([-n for n, _ in kept], dtype=np.int64))

    def read(self, sentences: Iterable[Sequence[str]]) -> Text:
        """Returns sentences as numbers; words that were not kept are left out."""
        known = self.index
        rows = [[known[word] for word in sentence if word in known] for sentence in sentences]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        words = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        return Text(words, np.repeat(np.arange(len(rows)), lengths))


class Text(NamedTuple):
    """Sentences one behind the other."""

    words: NDArray[np.int64]  # [n]
    sentences: NDArray[np.int64]  # [n], the number of the sentence that each word stands in

    def thinned(self, counts: NDArray[np.int64], share: float, random: np.random.Generator) -> Text:
        """Drops frequent words at random, so that what is near can be rarer words.

        A word that makes up f of the text is kept with probability sqrt(share / f) + share / f.

        Args:
            counts: of all words.
            share: of the text above which words are dropped; 0 keeps all.
            random: of the draw.

        Source: Mikolov et al. 2013, arXiv 1310.4546, section 2.3, as their program computes it.
        """
        if share == 0:
            return self
        ratio = share * counts.sum() / counts
        kept = random.random(len(self.words)) < (np.sqrt(ratio) + ratio)[self.words]
        return Text(self.words[kept], self.sentences[kept])
