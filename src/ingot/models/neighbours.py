"""Which words of a text are neighbours: batches of blocks of consecutive words, with random negatives.

```
text    ... a b | c d e f ... x y | z ...      block of 32 words, and `window` places on both sides
near    word by place: 1 where the place is in the same sentence, and no further than the word reaches
```

How far a word reaches is drawn for each, from 1 to the window: near neighbours count more. Negatives are
drawn by the power 0.75 of how often words stand in the text (Mikolov et al. 2013, arXiv 1310.4546, 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.models.lexicon import Lexicon, Text

BLOCK = 32
"""Words of a block: longer ones multiply more pairs that are too far apart, shorter ones smaller matrices."""


class Batch(NamedTuple):
    """Blocks of consecutive words."""

    places: Tensor  # [g, c] int64: numbers of the words of each block and `window` on both sides
    near: Tensor  # [g, BLOCK, c] float32: 1 where a place is a neighbour of a word, else 0
    negatives: Tensor  # [n] int64


class Drawing(Protocol):
    """What `batches` has to know; `Word2VecConfig` explains the names."""

    @property
    def window(self) -> int: ...

    @property
    def epochs(self) -> int: ...

    @property
    def share(self) -> float: ...

    @property
    def batch(self) -> int: ...

    @property
    def shared(self) -> int: ...

    @property
    def seed(self) -> int: ...


def batches(lexicon: Lexicon, text: Text, config: Drawing) -> Iterator[tuple[float, Batch]]:
    """Makes the batches of all epochs, the blocks of each epoch in an order of its own.

    Args:
        lexicon: of the text.
        text: in the lexicon's numbers.
        config: sizes and seed.

    Yields:
        How much is done before each batch, from 0 to 1, and the batch.
    """
    random = np.random.default_rng(config.seed)
    heap = np.cumsum(lexicon.counts**0.75)
    blocks, side = config.batch // BLOCK, config.window
    band = np.abs(np.arange(BLOCK + 2 * side) - side - np.arange(BLOCK)[:, None])  # [l, c], distances
    for epoch in range(config.epochs):
        words, sentences = text.thinned(lexicon.counts, config.share, random)
        count = -(-len(words) // BLOCK)
        filled = (side, count * BLOCK - len(words) + side)
        of_words = _blocks(np.pad(words, filled), side)
        of_sentences = _blocks(np.pad(sentences, filled, constant_values=-1), side)
        order = random.permutation(count)
        for start in range(0, count, blocks):
            some = order[start : start + blocks]
            home = of_sentences[some]  # [g, c]
            own = home[:, side : side + BLOCK, None]  # [g, l, 1]
            reach = random.integers(1, side + 1, size=own.shape)
            near = (band > 0) & (band <= reach) & (home[:, None] == own) & (own >= 0)
            drawn = np.searchsorted(heap, random.random(config.shared) * heap[-1], side="right")
            yield (
                (epoch + start / count) / config.epochs,
                Batch(
                    torch.from_numpy(of_words[some]),
                    torch.from_numpy(near).float(),
                    torch.from_numpy(np.minimum(drawn, len(heap) - 1)),
                ),
            )


def _blocks(row: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """A view of a padded row as blocks with `side` places on both sides, [g, c]."""
    view = np.lib.stride_tricks.sliding_window_view(row, BLOCK + 2 * side)
    blocks: NDArray[np.int64] = view[::BLOCK]
    return blocks
