"""The key-value cache: what attention remembers of every active request.

```
        row 0   | k k k k k . . . |      active rows are 0 ... n-1 without gaps, so that a decode step
        row 1   | k k . . . . . . |      reads a plain slice: nothing is gathered. A finished request's
        row 2   | k k k k k k k . |      row is filled by moving the last row into it.
        (row 3) | free            |
                  ^ one place per token of the context
```

Both callables here are what `Decoder.forward` takes as `attend`: the cache never appears in a model.

| letter | meaning | letter | meaning |
|---|---|---|---|
| s | rows that memory is held for | n | active rows |
| T | places that memory is held for | e | head width |
| h | query heads | k | key-value heads |
| w | width of a value's head, e but in latent attention | | |
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn import scoring
from ingot.nn.scoring import Scored

PLACES = 64
"""Lengths are rounded up to a multiple of this: few shapes, and room to grow without copying."""


def rounded(length: int) -> int:
    """Returns `length` rounded up to a multiple of `PLACES`."""
    return -(-length // PLACES) * PLACES


class Cache:
    """Keys and values of up to `rows` requests, of up to `context` tokens each.

    Memory is taken when it is first needed and doubled when it is outgrown, so a short chat on a
    model with a long context costs little. Number type and device are those of the keys that arrive.

    Args:
        rows: requests that may be active at once.
        context: tokens that a request may have.
    """

    def __init__(self, rows: int, context: int) -> None:
        self.rows = rows
        self.places = rounded(context)
        self.keys: list[Tensor] = []  # per layer [s, k, T, e]
        self.values: list[Tensor] = []  # per layer [s, k, T, w]

    def reserve(
        self, layer: int, key: Tensor, rows: int, places: int, value: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the layer's keys [s, k, T, e] and values [s, k, T, w], with at least these rows and places.

        Args:
            layer: its number; layers arrive in order.
            key: any [*, k, *, e] of the layer's keys, for the shape, type and device.
            rows: s needed.
            places: T needed.
            value: any [*, k, *, w] of its values; None has the shape of the keys.
        """
        if layer == len(self.keys):
            for kept, like in ((self.keys, key), (self.values, key if value is None else value)):
                kept.append(like.new_zeros(0, like.shape[1], 0, like.shape[3]))
        held_rows, _, held_places, _ = self.keys[layer].shape
        if rows > held_rows or places > held_places:
            rows = min(self.rows, max(rows, 2 * held_rows)) if rows > held_rows else held_rows
            if places > held_places:
                held_places = min(self.places, max(rounded(places), 2 * held_places))
            places = held_places
            self.keys[layer] = _enlarged(self.keys[layer], rows, places)
            self.values[layer] = _enlarged(self.values[layer], rows, places)
        return self.keys[layer], self.values[layer]

    def move(self, source: int, target: int) -> None:
        """Copies row `source` over row `target`."""
        for kept in (*self.keys, *self.values):
            kept[target] = kept[source]

    def bytes(self) -> int:
        """Returns the memory held."""
        return sum(kept.nbytes for kept in (*self.keys, *self.values))


def _enlarged(kept: Tensor, rows: int, places: int) -> Tensor:
    """A larger tensor that starts with `kept`; the rest is zero, because 0 * NaN would be NaN."""
    larger = kept.new_zeros(rows, kept.shape[1], places, kept.shape[3])
    larger[: kept.shape[0], :, : kept.shape[2]] = kept
    return larger


class Prefill:
    """Attends within several prompts at once and stores their keys and values.

    Prompts are padded on the right. Causality alone then keeps real tokens from seeing padding, and
    what padding leaves in the cache is masked by length until a later token overwrites it.

    Args:
        cache: where keys and values go.
        first: the first of the neighbouring rows to fill.
        origin: [m] int64: which prompt of the batch each row takes. Requests with the same prompt
            (rollouts, `n` choices) share one pass over it.
    """

    def __init__(self, cache: Cache, first: int, origin: Tensor) -> None:
        self.cache = cache
        self.rows = slice(first, first + len(origin))
        self.origin = origin

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`."""
        t = key.shape[2]
        keys, values = self.cache.reserve(layer, key, self.rows.stop, t, value)
        keys[self.rows, :, :t] = key[self.origin]
        values[self.rows, :, :t] = value[self.origin]
        scored = scored and scored.within(t)
        if scored is not None:
            return scoring.causal(query, key, value, scored)
        grouped = query.shape[1] != key.shape[1]
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)


class Step:
    """Attends from one new token per active row to all tokens of that row, itself included.

    Args:
        cache: holds rows 0 ... n-1.
        lengths: [n] int64: tokens stored in each row so far, which is the new token's place.
        longest: the largest of them.
    """

    def __init__(self, cache: Cache, lengths: Tensor, longest: int) -> None:
        self.cache = cache
        self.lengths = lengths
        self.places = rounded(longest + 1)
        self.row = torch.arange(len(lengths), device=lengths.device)
        place = torch.arange(self.places, device=lengths.device)
        self.distance = (lengths[:, None] - place)[:, None, None]  # [n, 1, 1, T]
        self.mask = self.distance >= 0
        self.longest = longest

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`; here t is 1 and b is n."""
        n, h, _, e = query.shape
        k = key.shape[1]
        keys, values = self.cache.reserve(layer, key, n, self.places, value)
        keys[self.row, :, self.lengths] = key[:, :, 0]
        values[self.row, :, self.lengths] = value[:, :, 0]
        scored = scored and scored.within(self.longest + 1)
        if scored is not None:
            held = keys[:n, :, : self.places], values[:n, :, : self.places]
            return scoring.attend(query, *held, self.distance, None, scored)
        # The h/k query heads that share keys stand as if they were tokens: keys are read once for all.
        together = query.view(n, k, h // k, e)
        seen = slice(None, self.places)
        mixed = scaled_dot_product_attention(
            together, keys[:n, :, seen], values[:n, :, seen], attn_mask=self.mask
        )
        return mixed.reshape(n, h, 1, -1)
