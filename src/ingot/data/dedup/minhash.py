"""MinHash signatures: a few numbers per text, of which two texts share about their Jaccard similarity.

    text -> bare words -> hashes of word 5-grams -> the smallest under each of 112 permutations

(Broder 1997.) Grams, bands and rows are FineWeb's (Penedo et al. 2024, arXiv 2406.17557, appendix E): 14
bands of 8. Everything is arithmetic on whole arrays: texts are joined until there is enough for numpy to
be busy, and one text's result does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from ingot.config import Config
from ingot.data.dedup.rolling import Hashes, Places, windows
from ingot.data.dedup.shingles import WordHashes, shingles
from ingot.data.dedup.words import batches, joined
from ingot.data.permutation import mix

NO_WORDS = np.uint64(2**64 - 1)
"""What every number of a signature is where there was nothing to hash."""

_CHUNK = 2**15  # grams that are permuted in one go: they and their permutation fit a core's cache
_STEP = np.uint64(0x9E3779B97F4A7C15)


class MinHashConfig(Config):
    """How texts are compared.

    Args:
        words: "bare" is FineWeb's, without case, signs, accents and the values of numbers; with "signs" every
            sign is a word and case counts, as program text wants it: those of `shingles.py`, and slower.
        ngram: words of a gram; a text of fewer words is one gram.
        bands: of which two texts must share one to be compared at all.
        rows: numbers of a band.
        seed: of the permutations; signatures of different seeds cannot be compared.
    """

    words: Literal["bare", "signs"] = "bare"
    ngram: int = Field(default=5, ge=1, le=64)
    bands: int = Field(default=14, ge=1, le=256)
    rows: int = Field(default=8, ge=1, le=256)
    seed: int = 1

    def build(self) -> MinHash:
        """Returns what makes the signatures."""
        return MinHash(self)


class MinHash:
    """Makes signatures.

    Args:
        config: None is FineWeb's.

    Example:
        >>> one, other = MinHash().signatures(["To be, or not to be?", "to be or not to be"])
        >>> bool((one == other).all())
        True
    """

    def __init__(self, config: MinHashConfig | None = None) -> None:
        self.config = config or MinHashConfig()
        self.size = self.config.bands * self.config.rows
        self._permutations = permutations(self.size, self.config.seed)
        self._known = WordHashes()

    def signature(self, text: str) -> Hashes:
        """Returns the signature [size] of one text; `NO_WORDS` throughout where it has no words."""
        return self.signatures([text])[0]

    def signatures(self, texts: Iterable[str]) -> Hashes:
        """Returns the signatures [n, size] of n texts, in order; the texts are taken one batch at a time."""
        found = [np.empty((0, self.size), dtype=np.uint64)]
        for grams, counts in self._grams(texts):
            batch = np.full((len(counts), self.size), NO_WORDS, dtype=np.uint64)
            full = np.flatnonzero(counts)
            starts = (np.cumsum(counts) - counts)[full]
            batch[full] = smallest(grams, starts, *self._permutations)
            found.append(batch)
        return np.concatenate(found)

    def shingles(self, text: str) -> Hashes:
        """Returns the set of hashed grams that the signature stands for: [n], sorted, without repeats."""
        return np.unique(next(self._grams([text]))[0])

    def _grams(self, texts: Iterable[str]) -> Iterator[tuple[Hashes, Places]]:
        """The grams of texts, one text after the other, and how many each has: a batch at a time."""
        if self.config.words == "bare":
            return (_bare_grams(batch, self.config.ngram) for batch in batches(texts))
        return _signed_grams(texts, self._known, self.config.ngram)


def permutations(count: int, seed: int) -> tuple[Hashes, Hashes]:
    """Returns odd multipliers and shifts [count]: x -> a x + b is a permutation of the 64-bit numbers."""
    counter = np.arange(1, 2 * count + 1, dtype=np.uint64) + np.uint64(seed % 2**32 << 32)
    numbers = mix(counter * _STEP)
    return numbers[:count] | np.uint64(1), numbers[count:]


def smallest(grams: Hashes, starts: Places, multipliers: Hashes, shifts: Hashes) -> Hashes:
    """Finds the smallest value of sets of grams under each permutation.

    Args:
        grams: [g], one set after the other.
        starts: [n] where each set starts, ascending; none is empty.
        multipliers: [p] odd.
        shifts: [p].

    Returns:
        [n, p] uint64.
    """
    found = np.full((len(multipliers), len(starts)), NO_WORDS, dtype=np.uint64)
    room = np.empty(min(_CHUNK, len(grams)), dtype=np.uint64)
    for start in range(0, len(grams), _CHUNK):
        part = grams[start : start + _CHUNK]
        permuted = room[: len(part)]
        # The sets that lie in this part; the first may have begun in an earlier one.
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, start + len(part)))
        edges = np.maximum(starts[first:last] - start, 0)
        for number in range(len(multipliers)):
            np.multiply(part, multipliers[number], out=permuted)
            np.add(permuted, shifts[number], out=permuted)
            row = found[number, first:last]
            np.minimum(row, np.minimum.reduceat(permuted, edges), out=row)
    return found.T


def rows_per_band(threshold: float, size: int, missed: float) -> int:
    """Returns the longest bands (fewest false hints) that miss few pairs right at a threshold.

    Two texts of similarity s agree in a band of r rows with chance s^r, and in none of n / r bands with
    chance (1 - s^r)^(n / r).

    Args:
        threshold: Jaccard similarity, above 0.
        size: n, numbers in a signature.
        missed: the chance, at most, that such a pair goes unseen.
    """
    for rows in range(size, 1, -1):
        if (1 - threshold**rows) ** (size // rows) <= missed:
            return rows
    return 1


def _bare_grams(batch: Sequence[bytes], ngram: int) -> tuple[Hashes, Places]:
    """The grams of normalised texts, and how many each has."""
    _, found, first, last = joined(batch)
    # Each place starts a gram if its text goes on for long enough; a short text is a gram by itself.
    whole = np.maximum(last - first - ngram + 1, 0)
    short = np.flatnonzero((last > first) & (whole == 0))
    counts = np.where(last > first, np.maximum(whole, 1), 0)
    at = np.cumsum(counts) - counts
    grams = np.zeros(len(found.hashes), dtype=np.uint64)
    wide = windows(found.hashes, ngram)
    grams[: len(wide)] = wide
    grams = grams[_ranges(first, counts)]
    for width in np.unique((last - first)[short]).tolist():
        same = short[(last - first)[short] == width]
        grams[at[same]] = windows(found.hashes, width)[first[same]]
    return mix(grams), counts


def _signed_grams(texts: Iterable[str], known: WordHashes, ngram: int) -> Iterator[tuple[Hashes, Places]]:
    """The same, of words with all signs: as many texts in a batch as fill one chunk."""
    found: list[Hashes] = []
    size = 0
    for text in texts:
        found.append(shingles(text, known, ngram))
        size += len(found[-1])
        if size >= _CHUNK:
            yield np.concatenate(found), np.array([len(grams) for grams in found])
            found, size = [], 0
    if found:
        yield np.concatenate(found), np.array([len(grams) for grams in found])


def _ranges(starts: Places, counts: Places) -> Places:
    """The numbers start, start + 1, ... of every range, one range after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)
