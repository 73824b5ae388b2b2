"""Seeds: the frequent substrings of counted words, from which a unigram model chooses its pieces.

Found length by length: a substring is frequent only if the one without its last character is (the rule of
Apriori, Agrawal and Srikant 1994), so each round looks only where the last one found something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ingot.tokenizer.alphabet import BREAK, code_points
from ingot.tokenizer.lattice import Lattices
from ingot.tokenizer.words import Ints, Longs


@dataclass(frozen=True)
class Seeds:
    """Candidates, and where they stand.

    Args:
        texts: the characters of the alphabet, by code point; then substrings, by length.
        characters: how many of them are characters of the alphabet.
        frequencies: how often each occurs. [texts]
        lattices: the words cut into them in all ways.
    """

    texts: list[str]
    characters: int
    frequencies: Longs
    lattices: Lattices


def find(pieces: Mapping[str, int], number: int, longest: int, coverage: float) -> Seeds:
    """Finds the candidates of a text.

    Args:
        pieces: text piece -> how often it occurs.
        number: candidates of two characters or more to have at most: those that cover most, by frequency
            times length.
        longest: characters that a candidate may have at most.
        coverage: share of the text's characters that the alphabet has to cover, the most frequent first;
            the others part words.
    """
    points = code_points(pieces)
    often: Longs = np.concatenate(([0], np.fromiter(pieces.values(), np.int64, len(pieces))))
    weights = often[np.cumsum(points == BREAK)[:-1]] if len(pieces) else often
    weights = np.concatenate((weights, [0]))[: len(points)]  # how often the word of each position occurs
    alphabet, row, frequencies = _alphabet(points, weights, coverage)

    found = [(row, frequencies)]  # by length: the number of the substring at each position, or -1
    while len(found) < longest and len(found[-1][1]):
        found.append(_longer(found[-1][0], row, len(alphabet), weights, len(found)))
    scores = np.concatenate([often * (length + 1) for length, (_, often) in enumerate(found)])
    chosen = np.zeros(len(scores), bool)
    chosen[len(alphabet) :][np.argsort(-scores[len(alphabet) :], kind="stable")[:number]] = True
    chosen[: len(alphabet)] = True
    new = np.cumsum(chosen, dtype=np.int32) - np.int32(1)

    texts: list[str] = []
    starts, ends, numbers = [], [], []
    offset = 0
    for length, (at, often) in enumerate(found, start=1):
        known = np.flatnonzero(at >= 0).astype(np.int32)
        known = known[chosen[offset + at[known]]]
        ids = at[known] + offset
        starts.append(known)
        ends.append(known + np.int32(length))
        numbers.append(new[ids])
        _, places = np.unique(ids, return_index=True)
        for place in known[places].tolist():
            texts.append(points[place : place + length].tobytes().decode("utf-32-le", errors="surrogatepass"))
        offset += len(often)
    inside = row >= 0
    first = np.flatnonzero(inside & ~np.concatenate(([False], inside[:-1]))).astype(np.int32)
    last = np.flatnonzero(~inside & np.concatenate(([False], inside[:-1]))).astype(np.int32)
    lattices = Lattices(
        np.concatenate(starts), np.concatenate(ends), np.concatenate(numbers), first, last, weights[first]
    )
    total = np.concatenate([often for _, often in found])
    return Seeds(texts, len(alphabet), total[chosen], lattices)


def _alphabet(points: np.ndarray, weights: Longs, coverage: float) -> tuple[list[str], Ints, Longs]:
    """The characters, the number of the one at each position (-1 for none), and how often each occurs."""
    often = np.zeros(0x110000, np.int64)
    inside = points != BREAK
    np.add.at(often, points[inside], weights[inside])
    order = np.argsort(-often, kind="stable")[: np.count_nonzero(often)]
    covered = np.cumsum(often[order])
    enough = int(np.searchsorted(covered, coverage * covered[-1])) + 1 if len(order) else 0
    kept = np.sort(order[:enough])
    number = np.full(0x110000, -1, np.int32)
    number[kept] = np.arange(len(kept))
    return [chr(point) for point in kept.tolist()], number[points], often[kept]


def _longer(at: Ints, row: Ints, alphabet: int, weights: Longs, length: int) -> tuple[Ints, Longs]:
    """The frequent substrings that are one character longer than those found last."""
    longer = np.full(len(row), -1, np.int32)
    places = np.flatnonzero(at[: len(row) - length] >= 0)
    places = places[row[places + length] >= 0]
    keys = at[places].astype(np.int64) * alphabet + row[places + length]
    _, numbers = np.unique(keys, return_inverse=True)
    sums = np.zeros(int(numbers.max(initial=-1)) + 1, np.int64)
    np.add.at(sums, numbers, weights[places])
    frequent = sums >= 2
    new = np.where(frequent, np.cumsum(frequent) - 1, -1).astype(np.int32)
    longer[places] = new[numbers]
    return longer, sums[frequent]
