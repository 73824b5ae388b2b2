"""Counting the n-grams of a text, all of one length at a time, by sorting.

```
documents -> places of n-grams -> distinct ones, sorted -> a of the shorter ones, from the longer ones
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.errors import ConfigError, DataError
from ingot.models.ngram import NGram, Table, checked

Integers = NDArray[np.int64]

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts of a table whose counts of counts cannot tell them, as with too little text; KenLM's."""


def train(documents: Iterable[Sequence[int]], vocabulary: int, bos: int, order: int = 3) -> NGram:
    """Makes an n-gram model of documents.

    All tokens are held in memory, about 100 bytes for each of them while the tables are made.

    Args:
        documents: token ids of each, without BOS; n-grams do not reach from one into the next.
        vocabulary: v, number of tokens.
        bos: token that begins every document.
        order: length of the longest n-grams.

    Raises:
        ConfigError: an order below one.
        DataError: a token outside the vocabulary, or no token at all.

    Example:
        >>> train([[1, 2, 3, 1, 2]], vocabulary=5, bos=0).order
        3
    """
    if order < 1:
        raise ConfigError(f"order is {order}", where="n-gram model", fix="use 1 or more")
    rows = [np.concatenate(([bos], np.asarray(one, dtype=np.int64))) for one in documents]
    if sum(len(row) - 1 for row in rows) == 0:
        raise DataError("no token to count", where="n-gram model", fix="give documents with text")
    text = np.concatenate(rows)
    checked(text, vocabulary)
    begins = np.cumsum([0, *(len(row) for row in rows[:-1])])
    tables: list[Table] = []
    keys = counts = np.zeros(0, dtype=np.int64)
    before = np.zeros(len(text), dtype=np.int64)  # row of the shorter n-gram that ends before each token
    ends = before
    for length in range(1, order + 1):
        places = np.flatnonzero(before >= 0)
        longer, first, row, number = np.unique(
            before[places] * vocabulary + text[places],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        if length > 1:
            tables.append(_table(keys, _variety(counts, ends[places[first]], keep=length > 2)))
        keys, counts = longer, number.astype(np.int64)
        ends = np.full(len(text), -1, dtype=np.int64)  # row of the n-gram that ends at each token
        ends[places] = row
        before = np.concatenate(([-1], ends[:-1]))
        before[begins] = -1
    if order == 1:  # what begins a document was not predicted
        counts = counts - len(rows) * (keys == bos)
    return NGram([*tables, _table(keys, counts)], vocabulary, bos)


def estimate_discounts(counts: Integers) -> tuple[float, float, float]:
    """Estimates the three discounts from how many n-grams there are with a = 1, 2, 3 and 4.

    Args:
        counts: a of all n-grams of one length.

    Returns:
        D of a = 1, 2, and 3 or more; `FALLBACK` where one of the numbers is zero or a discount is not
        between zero and its a.

    Source: Chen and Goodman 1999, equation 26.
    """
    n1, n2, n3, n4 = (int((counts == a).sum()) for a in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= a for a, d in enumerate(found, 1)) else FALLBACK


def _variety(counts: Integers, ends: Integers, keep: bool) -> Integers:
    """a of shorter n-grams: how many distinct longer ones end with each.

    Args:
        counts: [n] how often each stands in the text.
        ends: which of them each distinct longer one ends with.
        keep: whether those that only begin documents keep their counts; BOS alone does not.
    """
    varied = np.bincount(ends, minlength=len(counts))
    return np.where((varied == 0) & keep, counts, varied).astype(np.int64)


def _table(keys: Integers, counts: Integers) -> Table:
    return Table(keys, counts, estimate_discounts(counts))
