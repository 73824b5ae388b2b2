"""Attention of every token by itself, over blocks of keys in their order: no neighbour changes a bit of it.

```
keys of one token   | block of 128 | block | block, masked |  each joined to what came before it
```

A block in which a token sees nothing changes no bit of its result, so tokens of all lengths share a tile.
Where keys come from (pages of a cache, or the pass itself) is the business of `Near`. Softmax block by block
is Milakov and Gimelshein 2018, arXiv 1805.02867.

| letter | meaning | letter | meaning |
|---|---|---|---|
| r | tokens of a tile | k | key-value heads |
| h | query heads | e, w | widths of a key's and a value's head |
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from ingot.nn.attention import causal
from ingot.nn.invariant import exactly
from ingot.nn.scoring import Scored

BLOCK = 128
"""Places that are scored at once."""

TOGETHER = 8
"""Tokens of a tile: each brings keys of its own, so that more would only spill from the processor's cache."""

LOWEST = -1e30
"""Where a maximum starts: finite, so that a block without a visible key divides nothing by zero."""

Near = Callable[[int], tuple[Tensor, Tensor]]
"""From the place at which a block begins to its keys [r, k, BLOCK, e] and values [r, k, BLOCK, w]."""


def attend_alone(
    query: Tensor, positions: Tensor, near: Near, kv_heads: int, value_width: int, scored: Scored
) -> Tensor:
    """Attends from a tile of tokens, each to the keys of its own text.

    Args:
        query: [r, h, e].
        positions: [r] int64: a token sees places up to its own.
        near: gives blocks, in any floating type; what stands at places that are not seen must be finite.
        kv_heads: k.
        value_width: w.
        scored: what the layer asks for beyond causal attention.

    Returns:
        [r, h, w], in float32 or wider.
    """
    r, h, e = query.shape
    k = kv_heads
    wide = torch.promote_types(query.dtype, torch.float32)
    asked = query.reshape(r, k, h // k, e).to(wide) * e**-0.5
    highest = asked.new_full((r, k, h // k, 1), LOWEST)
    total = torch.zeros_like(highest)
    mixed = asked.new_zeros(r, k, h // k, value_width)
    nearest, farthest = int(positions.min()), int(positions.max())
    begin = 0 if scored.window is None else max(0, nearest - scored.window + 1) // BLOCK * BLOCK
    for first in range(begin, farthest + 1, BLOCK):
        keys, values = near(first)
        scores = _scores(asked @ keys.to(wide).mT, positions, first, scored)
        higher = torch.maximum(highest, scores.amax(-1, keepdim=True))
        kept, weights = (highest - higher).exp(), (scores - higher).exp()
        total = total * kept + weights.sum(-1, keepdim=True)
        mixed = mixed * kept + weights @ values.to(wide)
        highest = higher
    if scored.sinks is not None:
        sinks = scored.sinks.to(wide).view(1, k, h // k, 1)
        higher = torch.maximum(highest, sinks)
        kept = (highest - higher).exp()
        total, mixed = total * kept + (sinks - higher).exp(), mixed * kept
    return (mixed / total).flatten(1, 2)


def _scores(scores: Tensor, positions: Tensor, first: int, scored: Scored) -> Tensor:
    """Scores [r, k, h/k, BLOCK] as the layer wants them; what a query does not see is -inf."""
    places = torch.arange(first, first + BLOCK)
    distance = (positions[:, None] - places)[:, None, None]  # [r, 1, 1, BLOCK]
    visible = distance >= 0
    if scored.window is not None:
        visible = visible & (distance < scored.window)
    if scored.cap is not None:
        scores = scored.cap * torch.tanh(scores / scored.cap)
    if scored.slopes is not None:
        scores = scores - scored.slopes.to(scores.dtype).view(1, scores.shape[1], -1, 1) * distance
    return scores.masked_fill(~visible, float("-inf"))


class Alone:
    """The `Attend` of a trainer whose sampler attends by `attend_alone`; the gradient is the ordinary one's.

    Rows are texts from their beginning: the token in column i stands at place i.

    Args:
        rows: tokens of a tile, as many as the sampler takes.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`."""
        asked = scored or Scored()

        def ordinary(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
            return causal(layer, query, key, value, asked._replace(sinks=sinks))

        def alone(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
            with torch.autocast(query.device.type, enabled=False):
                made = [self._text(*text, asked) for text in zip(query, key, value, strict=True)]
            return torch.stack(made).to(value.dtype)

        return exactly(alone, ordinary, query, key, value, asked.sinks)

    def _text(self, query: Tensor, key: Tensor, value: Tensor, scored: Scored) -> Tensor:
        """One text: query [h, t, e], key [k, t, e], value [k, t, w] -> [h, t, w]."""
        k, t, w = value.shape
        # As many copies as a tile has tokens: products of the very shape that a sampler makes.
        shared = [
            [pad(part, (0, 0, 0, -t % BLOCK))[:, first : first + BLOCK].expand(self.rows, -1, -1, -1)
             for part in (key, value)]
            for first in range(0, t, BLOCK)
        ]  # fmt: skip
        blocks = [
            (
                keys.clone(memory_format=torch.contiguous_format),
                values.clone(memory_format=torch.contiguous_format),
            )
            for keys, values in shared
        ]
        made = []
        for first in range(0, t, self.rows):
            places = torch.arange(first, first + self.rows).clamp(max=t - 1)
            tile = query[:, places].transpose(0, 1)  # [r, h, e]
            made.append(attend_alone(tile, places, lambda at: blocks[at // BLOCK], k, w, scored))
        return torch.cat(made)[:t].transpose(0, 1)
