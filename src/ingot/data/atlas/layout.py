"""Places on the map: neighbours attract, strangers repel, until the picture is calm.

The same idea as UMAP (McInnes, Healy and Melville 2018): each document's similarities become the chances
that it is tied to its neighbours, and stochastic gradient descent places tied documents together and random
others apart. Whole epochs are computed at once with arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingot.data.atlas.neighbours import Neighbours
from ingot.progress import Task

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix

Places = NDArray[np.float32]

A, B = 1.577, 0.895
"""Of 1 / (1 + A d^2B), the curve that is 1 up to a distance of 0.1 and falls off like exp(-d) after that."""

EPOCHS = 240
_STRANGERS = 5  # random others per tie and epoch
_STEP = 4.0  # the farthest that one force moves a document
_SPAN = 10.0  # of the first picture


def principal(vectors: NDArray[np.float32]) -> Places:
    """Returns the first two principal components, [n, 2]: the linear map, and the other's first picture.

    Args:
        vectors: [n, d].
    """
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred.T @ centred)
    places = centred @ axes[:2].T
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    return np.asarray(places, dtype=np.float32)


def arrange(
    vectors: NDArray[np.float32],
    near: Neighbours,
    seed: int = 0,
    epochs: int = EPOCHS,
    task: Task | None = None,
) -> Places:
    """Returns places where neighbours lie together.

    Args:
        vectors: [n, d], rows of length 1.
        near: of these vectors.
        seed: of the strangers that are drawn.
        epochs: how often every place is moved.
        task: is told of every epoch.

    Returns:
        [n, 2] float32. Who lies together is alike; how far apart islands lie says little.
    """
    task = task or Task()
    generator = np.random.default_rng(seed)
    places = principal(vectors)
    places *= _SPAN / max(1e-6, float(np.abs(places).max()))
    places += generator.normal(scale=0.05, size=places.shape).astype(np.float32)
    n = len(places)
    if n < 4 or near.indices.shape[1] < 1:
        return places
    graph = ties(near)
    heads, tails = graph.row.astype(np.int64), graph.col.astype(np.int64)
    waits = (graph.data.max() / graph.data).astype(np.float32)  # epochs from one pull of a tie to the next
    due = waits.copy()
    for epoch in range(1, epochs + 1):
        pulled = np.flatnonzero(due <= epoch)
        due[pulled] += waits[pulled]
        head, tail = heads[pulled], tails[pulled]
        moved = _scatter(head, _pull(places[head] - places[tail]), n)
        pushed = np.repeat(head, _STRANGERS)
        stranger = generator.integers(n, size=len(pushed))
        moved += _scatter(pushed, _push(places[pushed] - places[stranger]), n)
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        moved *= np.minimum(1, _STEP / np.maximum(length, 1e-9))  # sums of many forces stay steps
        places += ((1 - (epoch - 1) / epochs) * moved).astype(np.float32)
        task.advance()
    return places


def ties(near: Neighbours) -> coo_matrix:
    """Returns the chance that two documents are tied, [n, n] sparse and symmetric.

    Each document is tied to its nearest for certain, and to the others so that its ties add up to log2(k):
    in crowded places it takes more likeness to be near.
    """
    from scipy.sparse import coo_matrix

    n, k = near.indices.shape
    distance = np.maximum(0, 1 - near.similarity).astype(np.float64)  # [n, k]
    beyond = distance - distance[:, :1]
    low, high = np.full(n, 1e-6), np.full(n, 1e3)
    for _ in range(48):
        width = np.sqrt(low * high)
        too_wide = np.exp(-beyond / width[:, None]).sum(axis=1) > np.log2(max(2, k))
        low, high = np.where(too_wide, low, width), np.where(too_wide, width, high)
    chance = np.exp(-beyond / np.sqrt(low * high)[:, None])
    rows = np.repeat(np.arange(n), k)
    one_way = coo_matrix((chance.ravel(), (rows, near.indices.ravel())), shape=(n, n)).tocsr()
    other = one_way.T.tocsr()
    both = (one_way + other - one_way.multiply(other)).tocoo()
    both.data = np.maximum(both.data, 1e-4)
    return both


def _pull(apart: Places) -> Places:
    squared = (apart**2).sum(axis=1, keepdims=True) + 1e-12
    force = -2 * A * B * squared ** (B - 1) / (1 + A * squared**B)
    return np.clip(force * apart, -_STEP, _STEP)


def _push(apart: Places) -> Places:
    squared = (apart**2).sum(axis=1, keepdims=True)
    force = 2 * B / ((0.001 + squared) * (1 + A * squared**B))
    return np.clip(force * apart, -_STEP, _STEP)


def _scatter(rows: NDArray[np.int64], forces: Places, n: int) -> NDArray[np.float64]:
    """Adds up the forces on each document, [n, 2]."""
    return np.stack([np.bincount(rows, forces[:, axis], n) for axis in (0, 1)], axis=1)
