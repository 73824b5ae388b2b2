"""Documents as vectors: words weighed by how rare they are (TF-IDF), condensed by a truncated SVD.

Nothing is downloaded: the vectors know only which words documents share. Words are hashed to columns
(Weinberger and others 2009), so that memory does not grow with the vocabulary.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COLUMNS = 2**18
"""To which words are hashed: with 100,000 words, every third shares its column with another."""

DIMENSIONS = 64

_WORD = re.compile(r"[^\W\d_]{2,40}")
_WITHOUT_BLANKS = re.compile("[\u3040-\u30ff\u3400-\u9fff]")  # scripts of which a run is no word
_CACHED = 500_000


class Words:
    """Counts the words of documents, one document after the other."""

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}
        self._names: dict[int, tuple[str, int]] = {}
        self._indices, self._counts, self._ends = array("i"), array("i"), array("q", [0])

    def add(self, text: str) -> bool:
        """Counts the words of one document and returns whether it has any."""
        counted: Counter[int] = Counter()
        for word, count in Counter(words(text)).items():
            column = self._column(word)
            counted[column] += count
            self._vote(column, word)
        self._indices.extend(counted.keys())
        self._counts.extend(counted.values())
        self._ends.append(len(self._indices))
        return bool(counted)

    def matrix(self) -> csr_matrix:
        """Returns how often each word is in each document, [n, COLUMNS]."""
        from scipy.sparse import csr_matrix

        counts = np.frombuffer(self._counts, dtype=np.int32) if self._counts else np.empty(0, np.int32)
        indices = np.frombuffer(self._indices, dtype=np.int32) if self._indices else np.empty(0, np.int32)
        ends = np.frombuffer(self._ends, dtype=np.int64)
        return csr_matrix((counts.astype(np.float32), indices, ends), shape=(len(ends) - 1, COLUMNS))

    def name(self, column: int) -> str:
        """Returns the word that most documents mean by a column."""
        return self._names[column][0]

    def _column(self, word: str) -> int:
        column = self._columns.get(word)
        if column is None:
            if len(self._columns) >= _CACHED:
                self._columns.clear()
            column = self._columns[word] = zlib.crc32(word.encode()) % COLUMNS
        return column

    def _vote(self, column: int, word: str) -> None:
        """A majority vote in one variable (Boyer and Moore): the word that most documents have stays."""
        name, votes = self._names.get(column, (word, 0))
        if name == word:
            self._names[column] = (word, votes + 1)
        else:
            self._names[column] = (name, votes - 1) if votes > 1 else (word, 1)


def words(text: str) -> list[str]:
    """Returns the words of a text, lower case; of scripts without blanks, each two signs in a row.

    Example:
        >>> words("The fox, 7 foxes 中文字")
        ['the', 'fox', 'foxes', '中文', '文字']
    """
    found = _WORD.findall(text.lower())
    if text.isascii() or not _WITHOUT_BLANKS.search(text):
        return found
    parted = []
    for word in found:
        pairs = [word[at : at + 2] for at in range(len(word) - 1)] if _WITHOUT_BLANKS.search(word) else [word]
        parted += pairs
    return parted


def embed(counts: csr_matrix, seed: int = 0, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """Condenses word counts to vectors whose inner product says how alike two documents are.

    Args:
        counts: [n, columns], every row with a word.
        seed: of the start vector.
        dimensions: of the vectors, at most; few documents give fewer.

    Returns:
        [n, d] float32, rows of length 1.

    Source: Deerwester and others 1990 (latent semantic analysis).
    """
    from scipy.sparse import diags
    from scipy.sparse.linalg import svds

    n = counts.shape[0]
    shared = np.bincount(counts.indices, minlength=counts.shape[1])
    # A word of one document alone brings it near to none; one that nearly all have, near to all.
    kept = np.flatnonzero((shared >= 2) & (shared <= max(2, 0.8 * n)))
    kept = kept if len(kept) else np.flatnonzero(shared)
    weighed = counts[:, kept]
    weighed.data = 1 + np.log(weighed.data)
    weighed = weighed @ diags((np.log(n / shared[kept]) + 1).astype(np.float32))
    weighed = diags(1 / _lengths(np.sqrt(weighed.multiply(weighed).sum(axis=1)))) @ weighed
    d = min(dimensions, *weighed.shape)
    if d * 2 >= min(weighed.shape):
        left, values, _ = np.linalg.svd(weighed.toarray(), full_matrices=False)
        left, values = left[:, :d], values[:d]
    else:
        start = np.random.default_rng(seed).standard_normal(min(weighed.shape))
        left, values, _ = svds(weighed.astype(np.float64), k=d, v0=start, tol=1e-4)
    vectors = left * values
    return np.asarray(vectors / _lengths(np.linalg.norm(vectors, axis=1))[:, None], dtype=np.float32)


def _lengths(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norms to divide by: 1 where there is nothing to divide."""
    flat = np.asarray(norms).ravel()
    return np.where(flat > 1e-12, flat, 1.0)
