"""What a linear-time decoder remembers between two passes over a text.

```
delta layer      memory [b, h, e, w] and the last inputs of its convolutions     always the same size
attention layer  keys and values [b, k, t, e]                                    grow with the text
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn.attention import causal
from ingot.nn.delta import DeltaState
from ingot.nn.scoring import Scored


class KeysValues(NamedTuple):
    """What a layer of attention knows of the text so far: it grows with every token."""

    keys: Tensor  # [b, k, t, e]
    values: Tensor  # [b, k, t, e]


class LinearState(NamedTuple):
    """What the model knows of the text so far."""

    length: int  # tokens
    layers: tuple[DeltaState | KeysValues, ...]

    def bytes(self) -> int:
        """Returns the memory held."""
        flat = (one for layer in self.layers for part in layer for one in _tensors(part))
        return sum(one.nbytes for one in flat)


def _tensors(part: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (part,) if isinstance(part, Tensor) else part


class Recall:
    """Attends to the keys and values of earlier passes and of this one, and keeps them all."""

    def __init__(self, before: Mapping[int, KeysValues]) -> None:
        self.before = before
        self.after: dict[int, KeysValues] = {}

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`."""
        old = self.before.get(layer)
        if old is None:
            self.after[layer] = KeysValues(key, value)
            return causal(layer, query, key, value, scored)
        key, value = torch.cat([old.keys, key], 2), torch.cat([old.values, value], 2)
        self.after[layer] = KeysValues(key, value)
        t, past = query.shape[2], old.keys.shape[2]
        if t == 1:  # query heads that share keys stand as if they were tokens: keys are read once for all
            together = query.unflatten(1, (key.shape[1], -1))[:, :, :, 0]
            return scaled_dot_product_attention(together, key, value).flatten(1, 2)[:, :, None]
        places = torch.arange(past + t, device=query.device)
        shared = query.shape[1] != key.shape[1]
        mask = places <= places[past:, None]
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=shared)
