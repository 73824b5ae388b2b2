"""Relative positions by buckets: a learned number per head and distance is added to every score.

```
distance   0 1 2 ... 7 | 8-11 | 12-15 | 16-22 | ... | 91 and more      both sides, 32 buckets
bucket     0 1 2 ... 7 |  8   |   9   |  10   | ... | 15               16 more for what lies ahead
```

Half of the buckets are for a distance each, the others grow geometrically up to `furthest`, so that a model
reads texts longer than those it learned from. All layers of a stack share one table.

Source: Raffel et al. 2020 (T5), arXiv 1910.10683, section 2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn.mixed import shortened
from ingot.nn.scoring import Scored


def bucket(offset: Tensor, buckets: int, furthest: int, both_sides: bool) -> Tensor:
    """Returns the bucket of every offset.

    Args:
        offset: integers of any shape: place of the key less place of the query.
        buckets: how many there are.
        furthest: distance from which all offsets share the last one.
        both_sides: whether keys ahead have half of the buckets; otherwise they count as offset zero.

    Returns:
        int64 of the same shape, below `buckets`.

    Example:
        >>> bucket(torch.tensor([-200, -9, -1, 0, 1]), 32, 128, both_sides=True).tolist()
        [15, 8, 1, 0, 17]
    """
    first = torch.zeros_like(offset)
    if both_sides:
        buckets //= 2
        first = (offset > 0).long() * buckets
    distance = offset.abs() if both_sides else -offset.clamp(max=0)
    exact = buckets // 2
    # In float32 and in this order, as the published models were trained: a border may hang on the last bit.
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(furthest / exact)
    far = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
    return first + torch.where(distance < exact, distance, far)


class RelativeBias(nn.Module):
    """The table of a stack: what is added to the score of a query and a key some places apart.

    Args:
        heads: h.
        buckets: rows of the table.
        furthest: distance from which all offsets share a row.
        both_sides: whether keys after the query have rows of their own (an encoder's do).
    """

    def __init__(self, heads: int, buckets: int, furthest: int, both_sides: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.furthest = furthest
        self.both_sides = both_sides

    def forward(self, queries: int, keys: int, first: int = 0) -> Tensor:
        """Returns what is added, [h, t, s].

        Args:
            queries: t, at the places `first`, `first` + 1, ...
            keys: s, at the places 0, 1, ...
            first: place of the first query.
        """
        # The score depends on the offset alone: t + s - 1 rows are looked up instead of t * s, and every
        # query's row is a window of them.
        device = self.table.weight.device
        last = first + queries - 1
        offsets = torch.arange(-last, keys - first, device=device)
        rows = bucket(offsets, self.table.num_embeddings, self.furthest, self.both_sides)
        along = self.table(rows).T  # [h, t + s - 1]
        return along.unfold(1, keys, 1).flip(1)


class Added:
    """Attention with something added to its scores: a bias by distance, a mask, or both.

    Args:
        added: broadcasts to [b, h, t, s]; None adds nothing.
        scale: of the scores before that; None is 1/sqrt(e).
    """

    def __init__(self, added: Tensor | None, scale: float | None = None) -> None:
        self.added = added
        self.scale = scale

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """Args: layer, query [b, h, t, e], key and value [b, h, s, e]; no layer here asks for more.

        Returns:
            [b, h, t, e].
        """
        query, key, value = shortened(query), shortened(key), shortened(value)
        added = None if self.added is None else self.added.to(query.dtype)
        return scaled_dot_product_attention(query, key, value, attn_mask=added, scale=self.scale)


def padding(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """Returns what hides padding when it is added to scores, [b, 1, 1, s], or None where all is seen.

    The lowest number instead of minus infinity: a text of padding alone has a softmax then.

    Args:
        mask: [b, s] bool, true where tokens are; None where all are.
        like: of the number type that scores have.
    """
    if mask is None:
        return None
    lowest = torch.finfo(like.dtype).min
    return torch.zeros(mask.shape, dtype=like.dtype, device=mask.device).masked_fill(~mask, lowest)[
        :, None, None
    ]
