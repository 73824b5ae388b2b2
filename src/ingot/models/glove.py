"""GloVe: vectors whose products are the logarithms of how often words stand together.

```
sum over pairs of  f(X_ij) (w_i . c_j + a_i + b_j - log X_ij)^2        f(x) = min(1, (x / top)^0.75)
```

X counts a pair k words apart as 1 / k. The vector of a word is w + c.

Source: Pennington et al. 2014, "GloVe: Global vectors for word representation", sections 3 and 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from ingot.allocator import keep_freed_memory
from ingot.config import Config
from ingot.errors import DataError
from ingot.models.lexicon import Lexicon, Text
from ingot.models.vectors import Vectors
from ingot.models.word2vec import Report, Table


class GloVeConfig(Config):
    """How vectors are made of a text.

    Args:
        width: d, numbers of a vector.
        window: how far apart the words of a pair may be.
        epochs: passes over the different pairs.
        rate: of Adagrad.
        top: count from which on pairs weigh the same.
        power: of counts below that, as weights.
        least: how often a word must stand in the text.
        batch: pairs between two updates.
        seed: of everything that is drawn.
    """

    width: int = Field(default=100, gt=0)
    window: int = Field(default=10, gt=0)
    epochs: int = Field(default=25, gt=0)
    rate: float = Field(default=0.05, gt=0)
    top: float = Field(default=100.0, gt=0)
    power: float = Field(default=0.75, ge=0)
    least: int = Field(default=5, gt=0)
    batch: int = Field(default=16384, gt=0)
    seed: int = 0


class Together(NamedTuple):
    """How often words stand together, each pair that ever does in both orders."""

    words: NDArray[np.int64]  # [m]
    others: NDArray[np.int64]  # [m]
    counts: NDArray[np.float64]  # [m], X, above zero


class GloVe(NamedTuple):
    """The factors that were found."""

    words: Tensor  # [n, d + 2]: w, a, 1
    others: Tensor  # [n, d + 2]: c, 1, b
    losses: list[float]  # of each epoch, as seen during it: summed over all pairs

    def vectors(self) -> Tensor:
        """Returns w + c, [n, d]."""
        return self.words[:, :-2] + self.others[:, :-2]


def train(
    sentences: Sequence[Sequence[str]], config: GloVeConfig | None = None, report: Report | None = None
) -> Vectors:
    """Makes vectors of the words of sentences.

    Args:
        sentences: lists of words.
        config: None takes the usual sizes.
        report: hears of the progress after every epoch.

    Raises:
        DataError: no word stands there often enough, or no two stand together.
    """
    config = config or GloVeConfig()
    lexicon = Lexicon.count(sentences, config.least)
    together = count_together(lexicon.read(sentences), len(lexicon), config.window)
    return Vectors(lexicon.words, fit(together, len(lexicon), config, report).vectors().numpy())


def count_together(text: Text, vocabulary: int, window: int) -> Together:
    """Counts the pairs of words of the same sentence, in both orders, one k words apart as 1 / k.

    Args:
        text: of numbers below `vocabulary`.
        vocabulary: n.
        window: the largest k.

    Raises:
        DataError: there is no pair.
    """
    total = csr_array((vocabulary, vocabulary))
    for apart in range(1, window + 1):
        left, right = text.words[:-apart], text.words[apart:]
        same = text.sentences[:-apart] == text.sentences[apart:]
        left, right = left[same], right[same]
        # Added up at every distance: what is held is the pairs that differ, not all that there are.
        pairs = coo_array((np.full(len(left), 1 / apart), (left, right)), shape=total.shape)
        total = total + pairs.tocsr()
    both = (total + total.T).tocoo()
    if not both.nnz:
        raise DataError("no two words stand together", where="GloVe", fix="give longer sentences")
    return Together(both.row.astype(np.int64), both.col.astype(np.int64), both.data)


@torch.no_grad()
def fit(together: Together, vocabulary: int, config: GloVeConfig, report: Report | None = None) -> GloVe:
    """Finds the factors of the logarithms of counts.

    Args:
        together: how often words stand together.
        vocabulary: n.
        config: how.
        report: hears of the progress.
    """
    keep_freed_memory()
    random = torch.Generator().manual_seed(config.seed)
    d = config.width
    words, others = ((torch.rand(vocabulary, d + 2, generator=random) - 0.5) / d for _ in range(2))
    words[:, d:] = others[:, d:] = 0.0
    words[:, d + 1] = others[:, d] = 1.0  # the other side's bias passes through
    left, right = Table(words), Table(others)
    logs = torch.from_numpy(np.log(together.counts)).float()
    weights = torch.from_numpy(np.minimum(1, (together.counts / config.top) ** config.power)).float()
    rows, columns = torch.from_numpy(together.words), torch.from_numpy(together.others)
    losses: list[float] = []
    for epoch in range(config.epochs):
        loss = 0.0
        for some in torch.randperm(len(logs), generator=random).split(config.batch):
            i, at_i = rows[some].unique(return_inverse=True)
            j, at_j = columns[some].unique(return_inverse=True)
            w, c = left.take(i), right.take(j)
            wi, cj = w[at_i], c[at_j]
            error = (wi * cj).sum(-1) - logs[some]
            pull = (weights[some] * error)[:, None]
            loss += float(pull.squeeze(-1) @ error)
            dw = torch.zeros_like(w).index_add_(0, at_i, pull * cj)
            dc = torch.zeros_like(c).index_add_(0, at_j, pull * wi)
            dw[:, d + 1] = dc[:, d] = 0.0
            left.move(i, dw, config.rate)
            right.move(j, dc, config.rate)
        losses.append(loss)
        if report is not None:
            report((epoch + 1) / config.epochs, loss / float(weights.sum()))
    return GloVe(words, others, losses)
