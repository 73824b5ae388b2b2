"""Documents that say the same, exactly or nearly: groups, each pair of neighbours verified by its words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.data.atlas.neighbours import Neighbours
from ingot.data.dedup import jaccard, shingles

SIMILAR = 0.8
"""Share of word 5-grams (Jaccard) from which two documents are copies."""

_LIKELY = 0.92  # cosine of their vectors below which two documents are not compared word for word


def copies(texts: Sequence[str], hashes: Sequence[bytes], near: Neighbours) -> NDArray[np.int64]:
    """Groups documents that are copies of one another.

    Same texts are always found. Near copies are found among a document's nearest neighbours.

    Args:
        texts: of the documents, or their beginnings.
        hashes: of the whole texts.
        near: their nearest neighbours.

    Returns:
        [n] int64, the number of a document's group, or -1 for one without copies.
    """
    parents = list(range(len(texts)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[bytes, int] = {}
    for index, digest in enumerate(hashes):
        parents[root(index)] = root(first.setdefault(digest, index))
    grams: dict[int, NDArray[np.uint64]] = {}
    for index, place in np.argwhere(near.similarity >= _LIKELY).tolist():
        other = int(near.indices[index, place])
        if root(index) == root(other):
            continue
        for one in (index, other):
            if one not in grams:
                grams[one] = shingles(texts[one])
        sizes = sorted((len(grams[index]), len(grams[other])))
        if sizes[0] >= SIMILAR * sizes[1] and jaccard(grams[index], grams[other]) >= SIMILAR:
            parents[root(index)] = root(other)
    roots = np.array([root(index) for index in range(len(texts))], dtype=np.int64)
    numbers = np.full(len(texts), -1, dtype=np.int64)
    members = np.bincount(roots, minlength=len(texts))
    for number, one in enumerate(dict.fromkeys(roots[members[roots] > 1].tolist())):
        numbers[roots == one] = number
    return numbers
