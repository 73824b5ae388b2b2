"""Keys and values of requests that are rows of one tensor, each at a place of its own.

```
row 0   | k k k k k . . . |      active rows are 0 ... n-1 without gaps, so that a step reads a plain slice
row 1   | k k . . . . . . |
(row 2) | free            |
```

The engine of plain decoders keeps pages instead (`pages`). Models whose memory is mostly of another kind,
and encoder-decoders, whose texts are short, are served well by rows.

| letter | meaning | letter | meaning |
|---|---|---|---|
| s, n | rows held, active rows | T | places held |
| h, k | query heads, key-value heads | e | head width |
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn.scoring import Scored

PLACES = 64
"""Places are held in multiples of this: few shapes, and room to grow without copying."""


class RowCache:
    """Keys and values of several layers; memory is doubled when it is outgrown, and freed by `clear`."""

    def __init__(self) -> None:
        self.keys: dict[int, Tensor] = {}  # per layer [s, k, T, e]
        self.values: dict[int, Tensor] = {}

    def reserve(
        self, layer: int, key: Tensor, value: Tensor, rows: int, places: int
    ) -> tuple[Tensor, Tensor]:
        """Returns a layer's keys and values [s, k, T, e] with at least so many rows and places.

        Args:
            layer: its number.
            key, value: any [*, k, *, e] of the layer, for shape, type and device.
            rows, places: needed.
        """
        for held, like in ((self.keys, key), (self.values, value)):
            old = held.get(layer)
            if old is None:
                old = like.new_zeros(0, like.shape[1], 0, like.shape[3])
            if rows > old.shape[0] or places > old.shape[2]:
                more = max(rows, 2 * old.shape[0]) if rows > old.shape[0] else old.shape[0]
                longer = old.shape[2]
                if places > longer:
                    longer = -(-max(places, 2 * longer) // PLACES) * PLACES
                # Zeros, because what is masked still takes part: 0 * NaN would be NaN.
                grown = old.new_zeros(more, old.shape[1], longer, old.shape[3])
                grown[: old.shape[0], :, : old.shape[2]] = old
                held[layer] = grown
        return self.keys[layer], self.values[layer]

    def fill(self, layer: int, first: int, key: Tensor, value: Tensor) -> None:
        """Writes keys and values [m, k, t, e] into the rows from `first` on."""
        keys, values = self.reserve(layer, key, value, first + len(key), key.shape[2])
        keys[first : first + len(key), :, : key.shape[2]] = key
        values[first : first + len(key), :, : key.shape[2]] = value

    def move(self, source: int, target: int) -> None:
        """Copies row `source` over row `target`."""
        for held in (*self.keys.values(), *self.values.values()):
            held[target] = held[source]

    def choose(self, rows: Tensor) -> None:
        """Makes row i what row `rows[i]` was; memory is held for [n] rows then."""
        for held in (self.keys, self.values):
            for layer, old in held.items():
                held[layer] = old[rows]

    def clear(self) -> None:
        """Gives the memory back."""
        self.keys.clear()
        self.values.clear()

    def bytes(self) -> int:
        """Returns the memory held."""
        return sum(held.nbytes for held in (*self.keys.values(), *self.values.values()))


class NextTokens:
    """An `Attend` from one new token per row to all tokens of that row, itself included.

    Args:
        cache: holds rows 0 ... n-1; the new tokens' keys and values are added to it.
        lengths: [n] int64: tokens stored in each row so far, which is the new token's place.
        longest: the largest of them.
        along: [h, T'] what a key so many places back adds to a score, T' above `longest`; None adds nothing.
        scale: of scores; None is 1/sqrt(e).
    """

    def __init__(
        self,
        cache: RowCache,
        lengths: Tensor,
        longest: int,
        along: Tensor | None = None,
        scale: float | None = None,
    ) -> None:
        self.cache, self.lengths, self.scale = cache, lengths, scale
        self.places = longest + 1
        self.row = torch.arange(len(lengths), device=lengths.device)
        distance = lengths[:, None] - torch.arange(self.places, device=lengths.device)  # [n, T]
        later = distance < 0
        if along is None:
            self.mask = ~later[:, None, None]  # [n, 1, 1, T]
        else:
            added = along[:, distance.clamp(min=0)].transpose(0, 1)  # [n, h, T]
            self.mask = added.masked_fill(later[:, None], -torch.inf)[:, :, None]

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """Args: layer, query [n, h, 1, e], key and value [n, k, 1, e]. Returns: [n, h, 1, e]."""
        n, h, _, e = query.shape
        keys, values = self.cache.reserve(layer, key, value, n, self.places)
        keys[self.row, :, self.lengths] = key[:, :, 0]
        values[self.row, :, self.lengths] = value[:, :, 0]
        # Query heads that share keys stand as if they were tokens: keys are read once for all of them.
        together = query.view(n, key.shape[1], -1, e)
        seen = slice(None, self.places)
        mask = self.mask if self.mask.dtype == torch.bool else self.mask.to(query.dtype)
        mixed = scaled_dot_product_attention(
            together, keys[:n, :, seen], values[:n, :, seen], attn_mask=mask, scale=self.scale
        )
        return mixed.reshape(n, h, 1, -1)
