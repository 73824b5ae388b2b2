"""fastText: skip-gram or CBOW with vectors made of the letters of words, so that unknown words have one too.

```
where  ->  mean of the vectors of  where  <wh whe her ere re>  <whe wher here ere>  ...  (3 to 6 letters)
```

Pieces of words share rows of a table, the row being a hash of the piece: no list of pieces is kept.

Source: Bojanowski et al. 2017, arXiv 1607.04606, section 3.2; the hash: Fowler, Noll and Vo, FNV-1a.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ingot.errors import DataError
from ingot.models.lexicon import Lexicon
from ingot.models.vectors import Matrix, Vectors
from ingot.models.word2vec import Report, Table, Word2VecConfig, first, fit


class FastTextConfig(Word2VecConfig):
    """How vectors are made of a text; beyond word2vec's keys:

    Args:
        shortest: letters of a piece, the marks < and > of beginning and end counted.
        longest: letters of a piece.
        buckets: rows that all pieces share.
    """

    shortest: int = Field(default=3, gt=0)
    longest: int = Field(default=6, gt=0)
    buckets: int = Field(default=200_000, gt=0)


class FastText:
    """Vectors of words and of their pieces.

    Args:
        words: all that have a row of their own.
        matrix: [n + buckets, d] float32.
        config: of the pieces.

    Example:
        >>> model = train([["where", "there"]] * 9, FastTextConfig(width=4, buckets=100, epochs=1))
        >>> model["elsewhere"].shape
        (4,)
    """

    def __init__(self, words: Sequence[str], matrix: Matrix, config: FastTextConfig) -> None:
        self.words = list(words)
        self.matrix = matrix
        self.config = config
        self.index = {word: row for row, word in enumerate(self.words)}

    def __getitem__(self, word: str) -> Matrix:
        """Returns the vector of any word, [d]; of one that was not in the text, the mean of its pieces.

        Raises:
            DataError: an unknown word too short to have pieces.
        """
        found = self.rows(word)
        if not found:
            where, fix = "fastText", f"use words of {self.config.shortest - 2} letters or more"
            raise DataError(f"no vector for {word!r}, and no pieces of it", where=where, fix=fix)
        vector: Matrix = self.matrix[found].mean(0)
        return vector

    def rows(self, word: str) -> list[int]:
        """Returns the rows whose mean is a word's vector."""
        own = [self.index[word]] if word in self.index else []
        return own + [
            len(self.words) + hashed(piece) % self.config.buckets for piece in pieces(word, self.config)
        ]

    def vectors(self) -> Vectors:
        """Returns the vectors of all words of the text."""
        return Vectors(self.words, np.stack([self[word] for word in self.words]))


def train(
    sentences: Sequence[Sequence[str]], config: FastTextConfig | None = None, report: Report | None = None
) -> FastText:
    """Makes vectors of the words of sentences and of their pieces; arguments as of `word2vec.train`.

    Raises:
        DataError: no word stands there often enough.
    """
    config = config or FastTextConfig()
    lexicon = Lexicon.count(sentences, config.least)
    matrix = first(len(lexicon) + config.buckets, config)
    model = FastText(lexicon.words, matrix.numpy(), config)
    rows = Pieces(Table(matrix), [model.rows(word) for word in lexicon.words])
    fit(rows, lexicon, lexicon.read(sentences), config, report)
    return model


class Pieces:
    """Vectors of words as means of rows of a table.

    Args:
        table: of words and pieces, changed in place.
        rows: of every word.
    """

    def __init__(self, table: Table, rows: Sequence[Sequence[int]]) -> None:
        self.table = table
        self.counts = torch.tensor([len(one) for one in rows])
        self.starts = self.counts.cumsum(0) - self.counts
        self.flat = torch.tensor([row for one in rows for row in one])

    def take(self, words: Tensor) -> Tensor:
        """Returns the vectors [m, d] of words [m]."""
        rows, owner, counts = self._of(words)
        found = torch.zeros(len(words), self.table.matrix.shape[1])
        return found.index_add_(0, owner, self.table.matrix[rows]).div_(counts)

    def move(self, words: Tensor, gradient: Tensor, rate: float) -> None:
        """Moves the rows of different words [m] against the words' gradients [m, d]."""
        rows, owner, counts = self._of(words)
        different, place = rows.unique(return_inverse=True)
        summed = torch.zeros(len(different), gradient.shape[1])
        summed.index_add_(0, place, (gradient / counts)[owner])
        self.table.move(different, summed, rate)

    def _of(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of all words one behind the other [p], whose each is [p], how many each has [m, 1]."""
        counts = self.counts[words]
        owner = torch.repeat_interleave(counts)
        within = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        return self.flat[self.starts[words][owner] + within], owner, counts[:, None]


def pieces(word: str, config: FastTextConfig) -> list[str]:
    """Returns the pieces of a word.

    Example:
        >>> pieces("her", FastTextConfig(shortest=3, longest=4))
        ['<he', '<her', 'her', 'her>', 'er>']
    """
    marked = f"<{word}>"
    return [
        marked[start : start + size]
        for start in range(len(marked))
        for size in range(config.shortest, config.longest + 1)
        if start + size <= len(marked) and size < len(marked)
    ]


def hashed(piece: str) -> int:
    """Returns a hash of 32 bits, the same on every machine (FNV-1a over UTF-8).

    Example:
        >>> hex(hashed("a"))
        '0xe40c292c'
    """
    found = 2166136261
    for byte in piece.encode("utf-8"):
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found
