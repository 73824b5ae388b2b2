"""The n-gram language model, smoothed by interpolated modified Kneser-Ney.

```
p_k(w | context) = max(a(context w) - D, 0) / a(context .) + g(context) p_(k-1)(w | shorter context)
p_0(w) = 1 / vocabulary
```

`a` of the longest n-grams is how often they stand in the text; of shorter ones, how many different tokens
stand before them (an n-gram at the beginning of a document, which nothing can stand before, keeps its
count). D is one of three discounts, for a = 1, 2 and 3 or more; g gives away exactly what they took.

N-grams lie in sorted rows, one table per length: an n-gram is the number of its first n - 1 tokens in the
table before, times the vocabulary, plus its last token. So one context's n-grams are neighbours, and all
places of a text are looked up together.

Source: Kneser and Ney 1995, doi 10.1109/ICASSP.1995.479394; the three discounts and their estimate: Chen
and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.errors import DataError

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Table(NamedTuple):
    """The n-grams of one length, sorted by key."""

    keys: Integers  # [n]: row of the first tokens in the shorter table * vocabulary + last token
    counts: Integers  # [n]: a
    discounts: tuple[float, float, float]  # of a = 1, 2 and more


class Contexts(NamedTuple):
    """What can follow the n-grams of a table: its rows in the longer table, and their masses."""

    starts: Integers  # [m + 1]
    totals: Numbers  # [m], a(context .)
    spared: Numbers  # [m], g; 1 where nothing was seen to follow


class NGram:
    """A language model that counts.

    Args:
        tables: of the n-grams of length 1, 2, ..., order.
        vocabulary: v, number of tokens.
        bos: token that begins every document; never predicted from counts.

    Example:
        >>> from ingot.models.ngram_counts import train
        >>> model = train([[1, 2, 3, 1, 2]], vocabulary=5, bos=0, order=3)
        >>> int(model.distribution([0, 1]).argmax())
        2
    """

    def __init__(self, tables: Sequence[Table], vocabulary: int, bos: int) -> None:
        self.tables = tuple(tables)
        self.vocabulary = vocabulary
        self.bos = bos
        below = [1, *(len(table.keys) for table in self.tables)]
        self._contexts = [_contexts(t, m, vocabulary) for t, m in zip(self.tables, below, strict=False)]

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.tables)

    @property
    def memory(self) -> int:
        """Bytes of all arrays: 16 per n-gram, 24 more for each that is shorter than the longest."""
        held = sum(table.keys.nbytes + table.counts.nbytes for table in self.tables)
        return held + sum(array.nbytes for contexts in self._contexts for array in contexts)

    def distribution(self, context: Sequence[int]) -> Numbers:
        """Returns the probability of every token behind a context, [v]; it sums to one.

        Args:
            context: the tokens before, BOS first where they begin a document; only the last order - 1 count.

        Raises:
            DataError: a token outside the vocabulary.
        """
        context = [int(token) for token in context][max(0, len(context) - self.order + 1) :]
        checked(context, self.vocabulary)
        found = np.full(self.vocabulary, 1 / self.vocabulary)
        for length in range(min(len(context), self.order - 1) + 1):
            row = self._row(context[len(context) - length :])
            if row < 0:
                break  # a longer context ends with this one, so it was not seen either
            table, contexts = self.tables[length], self._contexts[length]
            rows = slice(contexts.starts[row], contexts.starts[row + 1])
            found *= contexts.spared[row]
            if contexts.totals[row]:
                taken = table.counts[rows] - _discounts(table, table.counts[rows])
                found[table.keys[rows] % self.vocabulary] += taken / contexts.totals[row]
        return found

    def nats(self, tokens: Sequence[int]) -> Numbers:
        """Returns minus the natural logarithm of the probability of every token of a document, [t].

        Args:
            tokens: of one document, without BOS; t of them.

        Raises:
            DataError: a token outside the vocabulary.
        """
        text = np.concatenate(([self.bos], np.asarray(tokens, dtype=np.int64)))
        checked(text, self.vocabulary)
        found = np.full(len(text) - 1, 1 / self.vocabulary)
        before = np.zeros(len(text), dtype=np.int64)  # row of the shorter n-gram that ends at each token
        opening = self._row([self.bos])
        for table, contexts in zip(self.tables, self._contexts, strict=True):
            context = before[:-1]
            row = _find(table.keys, context, text[1:], self.vocabulary)
            seen, hit = context >= 0, row >= 0
            found[seen] *= contexts.spared[context[seen]]
            taken = table.counts[row[hit]] - _discounts(table, table.counts[row[hit]])
            found[hit] += taken / contexts.totals[context[hit]]
            before = np.concatenate(([opening], row))
            opening = -1
        nats: Numbers = -np.log(found)
        return nats

    def generate(self, tokens: Sequence[int], new: int, seed: int = 0, temperature: float = 1.0) -> list[int]:
        """Continues a text.

        Args:
            tokens: BOS and what follows it.
            new: tokens to add.
            seed: of the draw.
            temperature: 0 takes the likeliest token.

        Returns:
            The new tokens.
        """
        random, text = np.random.default_rng(seed), list(tokens)
        for _ in range(new):
            chances = self.distribution(text)
            if temperature == 0:
                text.append(int(chances.argmax()))
                continue
            heap = np.cumsum(chances ** (1 / temperature))
            text.append(
                min(int(np.searchsorted(heap, random.random() * heap[-1], side="right")), len(heap) - 1)
            )
        return text[len(tokens) :]

    def _row(self, ngram: Sequence[int]) -> int:
        """The row of an n-gram in the table of its length, -1 where it was not seen; 0 of the empty one."""
        row = np.zeros(1, dtype=np.int64)
        for table, token in zip(self.tables, ngram, strict=False):
            row = _find(table.keys, row, np.array([token]), self.vocabulary)
        return int(row[0])


def checked(tokens: Sequence[int] | Integers, vocabulary: int) -> None:
    """Refuses tokens outside the vocabulary."""
    row = np.asarray(tokens, dtype=np.int64)
    wrong = row[(row < 0) | (row >= vocabulary)]
    if len(wrong):
        fix = "use the tokenizer that the model was made with"
        raise DataError(
            f"token {wrong[0]} is outside the vocabulary of {vocabulary}", where="n-gram model", fix=fix
        )


def _discounts(table: Table, counts: Integers) -> Numbers:
    """D of every count; of zero, zero."""
    discounts: Numbers = np.array((0.0, *table.discounts))[np.minimum(counts, 3)]
    return discounts


def _contexts(table: Table, m: int, vocabulary: int) -> Contexts:
    """What follows the m n-grams of the shorter table (the empty one, m = 1, below the first)."""
    starts = np.searchsorted(table.keys, np.arange(m + 1) * vocabulary)
    owners = table.keys // vocabulary
    totals = np.bincount(owners, table.counts, minlength=m).astype(np.float64)
    taken = np.bincount(owners, _discounts(table, table.counts), minlength=m)
    spared = np.divide(taken, totals, out=np.ones(m), where=totals > 0)
    return Contexts(starts, totals, spared)


def _find(keys: Integers, rows: Integers, tokens: Integers, vocabulary: int) -> Integers:
    """Rows of n-grams by the row of what comes before and the last token; -1 where there is none."""
    if not len(keys):  # no document is that long
        return np.full(len(rows), -1)
    wanted = rows * vocabulary + tokens
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Integers = np.where((rows >= 0) & (keys[at] == wanted), at, -1)
    return found
