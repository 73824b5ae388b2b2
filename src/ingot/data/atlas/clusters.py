"""Clusters of documents, and the words that tell each from the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26)
"""How many clusters are tried where nobody says."""

TERMS = 10

_STARTS, _ROUNDS = 4, 60
_DISTINCT = 1.5  # how much more often a word must be in a cluster than in the corpus, to name it


@dataclass(frozen=True)
class Cluster:
    """Documents that share their words.

    Args:
        name: its three foremost words.
        terms: its foremost words, at most ten.
        size: documents in it.
    """

    name: str
    terms: tuple[str, ...]
    size: int


def cluster(vectors: NDArray[np.float32], seed: int = 0, count: int | None = None) -> NDArray[np.int64]:
    """Assigns each document to a cluster, the largest being 0.

    Args:
        vectors: [n, d], rows of length 1.
        seed: of the first centres.
        count: how many clusters; None takes the number at which documents lie clearest between theirs and
            the next (simplified silhouette; Hruschka and others 2004).

    Returns:
        [n] int64.
    """
    n = len(vectors)
    best, labels = -np.inf, np.zeros(n, dtype=np.int64)
    for k in COUNTS if count is None else (count,):
        if k > max(1, n // 2) and count is None:
            break
        found, centres = k_means(vectors, min(k, n), seed)
        if (clear := _clearness(vectors, centres)) > best:
            best, labels = clear, found
    sizes = np.bincount(labels)
    ranks = np.empty(len(sizes), dtype=np.int64)
    ranks[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return ranks[labels]


def k_means(vectors: NDArray[np.float32], k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns labels [n] and centres [k, d] of spherical k-means, the best of a few starts.

    Source: Dhillon and Modha 2001; starts as in k-means++ (Arthur and Vassilvitskii 2007).
    """
    best, result = -np.inf, None
    for start in range(_STARTS):
        generator = np.random.default_rng([seed, k, start])
        centres = _first(vectors, k, generator)
        labels = np.full(len(vectors), -1)
        for _ in range(_ROUNDS):
            near = vectors @ centres.T
            closest = near.argmax(axis=1)
            if np.array_equal(closest, labels):
                break
            labels = closest
            centres = _centres(vectors, labels, near.max(axis=1), k)
        total = float((vectors @ centres.T).max(axis=1).sum())
        if total > best:
            best, result = total, (labels, centres)
    assert result is not None
    return result


def describe(counts: csr_matrix, labels: NDArray[np.int64], name: Callable[[int], str]) -> list[Cluster]:
    """Names clusters by the words that are common in them and rare elsewhere (class-based TF-IDF).

    A word counts once per document, so that no single document names a cluster; the weight is the share
    of the cluster's documents that have it, times log(1 + clusters / its shares in all clusters).

    Args:
        counts: [n, columns], words by document.
        labels: [n], from 0.
        name: the word of a column.

    Source: Grootendorst 2022 (BERTopic), section 3.3.
    """
    from scipy.sparse import csr_matrix

    k = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=k)
    present = csr_matrix((np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape)
    member = csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(k, len(labels)))
    used = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]))
    shares = (member @ present[:, used]).toarray() / sizes[:, None]  # [k, words]
    overall = (sizes / sizes.sum()) @ shares
    weights = shares * np.log1p(k / shares.sum(axis=0))
    weights[shares < (_DISTINCT if k > 1 else 0) * overall] *= 1e-3  # last resort, where nothing is distinct
    found = []
    for row, size in zip(weights, sizes, strict=True):
        order = sorted(np.argpartition(-row, min(TERMS, len(row) - 1))[:TERMS], key=lambda c: (-row[c], c))
        terms = tuple(name(int(used[column])) for column in order if row[column] > 0)
        found.append(Cluster(", ".join(terms[:3]), terms, int(size)))
    return found


def _first(vectors: NDArray[np.float32], k: int, generator: np.random.Generator) -> NDArray[np.float32]:
    chosen = [int(generator.integers(len(vectors)))]
    far = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < k:
        weights = np.maximum(far, 0).astype(np.float64) + 1e-12
        chosen.append(int(generator.choice(len(vectors), p=weights / weights.sum())))
        far = np.minimum(far, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen]


def _centres(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], near: NDArray[np.float32], k: int
) -> NDArray[np.float32]:
    """Mean directions; an empty cluster starts over at the document that is least at home."""
    from scipy.sparse import csr_matrix

    n = len(vectors)
    sums = csr_matrix((np.ones(n, np.float32), (labels, np.arange(n))), shape=(k, n)) @ vectors
    lost = iter(np.argsort(near))
    for empty in np.flatnonzero(np.bincount(labels, minlength=k) == 0):
        sums[empty] = vectors[next(lost)]
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def _clearness(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    """Mean over documents of (distance to the next centre - to the own) / the former."""
    if len(centres) < 2:
        return 0.0
    distance = np.sort(np.maximum(0, 1 - vectors @ centres.T), axis=1)[:, :2]
    return float(np.mean((distance[:, 1] - distance[:, 0]) / np.maximum(distance[:, 1], 1e-9)))
