"""Attention to another sequence: every token gathers from what an encoder made of a source."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, nn

from ingot.nn.attention import Attend
from ingot.nn.linear import Linear


class Looked(NamedTuple):
    """What a layer looks at: made once for a source, however many tokens are written about it."""

    key: Tensor  # [b, h, s, e]
    value: Tensor  # [b, h, s, e]


class CrossAttention(nn.Module):
    """Multi-head attention whose queries are of one sequence, keys and values of another.

    Args:
        width: d, of both sequences.
        heads: h.
        head_width: e.
        biases: which of `query`, `key`, `value` and `output` have one.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3.
    """

    def __init__(self, *, width: int, heads: int, head_width: int, biases: Collection[str] = ()) -> None:
        super().__init__()
        self.head_width = head_width
        self.query = Linear(width, heads * head_width, bias="query" in biases)
        self.key = Linear(width, heads * head_width, bias="key" in biases)
        self.value = Linear(width, heads * head_width, bias="value" in biases)
        self.output = Linear(heads * head_width, width, bias="output" in biases)

    def look(self, memory: Tensor) -> Looked:
        """Returns keys and values of a sequence [b, s, d]."""
        return Looked(self._heads(self.key(memory)), self._heads(self.value(memory)))

    def forward(self, x: Tensor, looked: Looked, layer: int, attend: Attend) -> Tensor:
        """Args: x [b, t, d], what `look` gave, layer number, how to attend. Returns: [b, t, d]."""
        mixed = attend(layer, self._heads(self.query(x)), looked.key, looked.value)  # [b, h, t, e]
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_width).transpose(1, 2)
