"""word2vec: vectors with which words predict their neighbours, or neighbours their word.

```
skip-gram   log sigmoid(u_neighbour . v_word)   + sum over negatives of log sigmoid(-u_negative . v_word)
CBOW        the same, v_word being the mean of the neighbours' v and u_neighbour the word's own u
```

A batch is many blocks of consecutive words. All pairs of a block that are near enough are one matrix
product with a band for a mask, and all words of a batch share their negatives, each counted for as many
as it stands for: the expectation is that of the original, and nearly all of the work is products (Ji et
al. 2016, arXiv 1604.04661, sections III.B and III.C). As many words move at once, each with its sum of
gradients, the rate is Adagrad's (Duchi et al. 2011), which the number of times that a word stands in a
batch cannot make too large.

Source: Mikolov et al. 2013, arXiv 1301.3781 and 1310.4546, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from ingot.allocator import keep_freed_memory
from ingot.config import Config
from ingot.models.lexicon import Lexicon, Text
from ingot.models.neighbours import BLOCK, batches
from ingot.models.vectors import Vectors

Report = Callable[[float, float], None]
"""Is told how much is done, from 0 to 1, and the nats per pair (CBOW: per word) since it was last told."""


class Word2VecConfig(Config):
    """How vectors are made of a text.

    Args:
        model: `skip_gram` predicts the neighbours, `cbow` the word.
        width: d, numbers of a vector.
        window: how far away a neighbour may be; for each word a number up to this is drawn.
        negatives: random words against every pair.
        epochs: passes over the text.
        rate: of Adagrad at the beginning; falls to nearly zero in a straight line.
        least: how often a word must stand in the text.
        share: of the text above which words are dropped at random; 0 drops none.
        batch: words between two updates.
        shared: negatives that a batch draws for all its words.
        seed: of everything that is drawn.
    """

    model: Literal["skip_gram", "cbow"] = "skip_gram"
    width: int = Field(default=100, gt=0)
    window: int = Field(default=5, gt=0)
    negatives: int = Field(default=5, gt=0)
    epochs: int = Field(default=5, gt=0)
    rate: float = Field(default=0.1, gt=0)
    least: int = Field(default=5, gt=0)
    share: float = Field(default=1e-3, ge=0)
    batch: int = Field(default=2048, ge=BLOCK)
    shared: int = Field(default=64, gt=0)
    seed: int = 0


class Rows(Protocol):
    """Vectors of words that are looked up and moved by word."""

    def take(self, words: Tensor) -> Tensor:
        """Returns the vectors [m, d] of different words [m]."""
        ...

    def move(self, words: Tensor, gradient: Tensor, rate: float) -> None:
        """Moves the vectors of different words [m] against their gradients [m, d]."""
        ...


class Table:
    """A row of numbers per word, each with its own rate (Adagrad).

    Args:
        matrix: [n, d] float32, changed in place.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.squares = torch.full_like(matrix, 1e-8)

    def take(self, words: Tensor) -> Tensor:
        """Returns rows [m, d]."""
        return self.matrix[words]

    def move(self, words: Tensor, gradient: Tensor, rate: float) -> None:
        """Moves different rows [m] against their gradients [m, d]."""
        squares = self.squares[words].addcmul_(gradient, gradient)
        self.squares[words] = squares
        self.matrix.index_add_(0, words, gradient * squares.rsqrt_(), alpha=-rate)


def train(
    sentences: Sequence[Sequence[str]], config: Word2VecConfig | None = None, report: Report | None = None
) -> Vectors:
    """Makes vectors of the words of sentences.

    Args:
        sentences: lists of words.
        config: None is skip-gram with the usual sizes.
        report: hears of the progress about a hundred times.

    Raises:
        DataError: no word stands there often enough.

    Example:
        >>> text = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 20
        >>> train(text, Word2VecConfig(width=4, epochs=1)).matrix.shape
        (4, 4)
    """
    config = config or Word2VecConfig()
    lexicon = Lexicon.count(sentences, config.least)
    inner = Table(first(len(lexicon), config))
    fit(inner, lexicon, lexicon.read(sentences), config, report)
    return Vectors(lexicon.words, inner.matrix.numpy())


def first(rows: int, config: Word2VecConfig) -> Tensor:
    """Returns vectors to begin with, [rows, d]: small and even, as the original's."""
    random = torch.Generator().manual_seed(config.seed)
    return (torch.rand(rows, config.width, generator=random) - 0.5) / config.width


@torch.no_grad()
def fit(
    inner: Rows, lexicon: Lexicon, text: Text, config: Word2VecConfig, report: Report | None = None
) -> None:
    """Trains the vectors of words; those of their neighbours begin at zero and are thrown away.

    Args:
        inner: v, changed in place.
        lexicon: of the text.
        text: in the lexicon's numbers.
        config: how.
        report: hears of the progress.
    """
    keep_freed_memory()
    outer = Table(torch.zeros(len(lexicon), config.width))
    update = _skip_gram if config.model == "skip_gram" else _cbow
    nats, pairs, told = 0.0, 0.0, 0.0
    for done, batch in batches(lexicon, text, config):
        words, row = torch.cat((batch.places.flatten(), batch.negatives)).unique(return_inverse=True)
        at = row[: batch.places.numel()].view_as(batch.places)
        v, u = inner.take(words), outer.take(words)
        weight = config.negatives / len(batch.negatives)
        loss, some, dv, du = update(v, u, at, row[batch.places.numel() :], batch.near, weight)
        rate = config.rate * max(1 - done, 1e-3)
        inner.move(words, dv, rate)
        outer.move(words, du, rate)
        nats, pairs = nats + loss, pairs + some
        if report is not None and done >= told + 0.01:
            report(done, nats / max(pairs, 1))
            nats, pairs, told = 0.0, 0.0, done


def _skip_gram(
    v: Tensor, u: Tensor, at: Tensor, negatives: Tensor, near: Tensor, weight: float
) -> tuple[float, float, Tensor, Tensor]:
    """Loss and gradients of a batch.

    Args:
        v: [m, d] of the batch's different words.
        u: [m, d] of the same.
        at: [g, c] which of them stands at each place of each block.
        negatives: [n] which of them are the negatives.
        near: [g, l, c].
        weight: of every negative, for one pair.

    Returns:
        Nats of all pairs, how many pairs, and the gradients of v and u, [m, d].
    """
    side = (near.shape[2] - near.shape[1]) // 2
    centre = at[:, side : side + near.shape[1]]  # [g, l]
    vs, us, un = v[centre], u[at], u[negatives]  # [g, l, d], [g, c, d], [n, d]
    scores = vs @ us.mT  # [g, l, c]
    against = vs @ un.T  # [g, l, n]
    times = weight * near.sum(-1, keepdim=True)  # [g, l, 1]
    nats = -float((logsigmoid(scores) * near).sum() + (logsigmoid(-against) * times).sum())
    pull = (scores.sigmoid_() - 1).mul_(near)
    push = against.sigmoid_().mul_(times)
    dv = _gathered(v, centre, pull @ us + push @ un)
    du = _gathered(u, at, pull.mT @ vs)
    du.index_add_(0, negatives, push.flatten(0, 1).T @ vs.flatten(0, 1))
    return nats, float(near.sum()), dv, du


def _cbow(
    v: Tensor, u: Tensor, at: Tensor, negatives: Tensor, near: Tensor, weight: float
) -> tuple[float, float, Tensor, Tensor]:
    """Loss and gradients of a batch; arguments and results as of `_skip_gram`."""
    side = (near.shape[2] - near.shape[1]) // 2
    centre = at[:, side : side + near.shape[1]]  # [g, l]
    count = near.sum(-1, keepdim=True)  # [g, l, 1]
    share = near / count.clamp(min=1)
    some = (count > 0).to(near.dtype)  # a word without neighbours is not predicted
    mean, uc, un = share @ v[at], u[centre], u[negatives]  # [g, l, d], [g, l, d], [n, d]
    score = (mean * uc).sum(-1, keepdim=True)  # [g, l, 1]
    against = mean @ un.T  # [g, l, n]
    nats = -float(((logsigmoid(score) + weight * logsigmoid(-against).sum(-1, keepdim=True)) * some).sum())
    pull = (score.sigmoid_() - 1) * some
    push = against.sigmoid_().mul_(weight * some)
    dv = _gathered(v, at, share.mT @ (pull * uc + push @ un))
    du = _gathered(u, centre, pull * mean)
    du.index_add_(0, negatives, push.flatten(0, 1).T @ mean.flatten(0, 1))
    return nats, float(some.sum()), dv, du


def _gathered(like: Tensor, rows: Tensor, parts: Tensor) -> Tensor:
    """Sums parts [..., d] into the rows [...] that they belong to."""
    return torch.zeros_like(like).index_add_(0, rows.flatten(), parts.flatten(0, -2))
