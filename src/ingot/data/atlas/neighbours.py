"""Which documents are most alike: exact nearest neighbours by cosine, in blocks that fit in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELLS = 16_000_000  # of a block of similarities: 64 MB


class Neighbours(NamedTuple):
    """The nearest of each document, most alike first: `indices` and `similarity`, [n, k]."""

    indices: NDArray[np.int64]
    similarity: NDArray[np.float32]


def neighbours(vectors: NDArray[np.float32], k: int) -> Neighbours:
    """Finds the k documents most alike to each.

    Args:
        vectors: [n, d], rows of length 1.
        k: how many; fewer where there are fewer others.
    """
    n = len(vectors)
    k = min(k, n - 1)
    indices = np.empty((n, k), dtype=np.int64)
    similarity = np.empty((n, k), dtype=np.float32)
    rows = max(1, _CELLS // n)
    for start in range(0, n, rows):
        block = vectors[start : start + rows] @ vectors.T
        own = np.arange(start, start + len(block))
        block[np.arange(len(block)), own] = -np.inf
        nearest = np.argpartition(block, n - k, axis=1)[:, n - k :]
        found = np.take_along_axis(block, nearest, axis=1)
        order = np.lexsort((nearest, -found), axis=1)
        indices[own] = np.take_along_axis(nearest, order, axis=1)
        similarity[own] = np.take_along_axis(found, order, axis=1)
    return Neighbours(indices, similarity)
