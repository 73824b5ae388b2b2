"""Attention: every token gathers from the tokens before it.

```
multi-head  (MHA)   k = h      every query head has its own keys and values
grouped     (GQA)   1 < k < h  h/k query heads share them
multi-query (MQA)   k = 1      all query heads share them
```

Who stores keys and values, and how they are masked, is not this file's business: a forward pass takes
`attend`, and a cache or a document mask is such a callable.

| letter | meaning | letter | meaning |
|---|---|---|---|
| b | batch | h | query heads |
| t | tokens | k | key-value heads |
| d | model width | e | head width |
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn import blocked_attention, document_attention
from ingot.nn.linear import Linear
from ingot.nn.mixed import shortened
from ingot.nn.positions import Angles, rotate


class Attend(Protocol):
    """Scores queries against keys and mixes values; may remember keys and values between calls."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Args: layer number, query [b, h, t, e], key and value [b, k, t, e]. Returns: [b, h, t, e]."""
        ...


def causal(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Plain causal attention over the tokens of one pass: token i sees tokens 0 to i."""
    query, key, value = shortened(query), shortened(key), shortened(value)
    if blocked_attention.suits(query):
        return blocked_attention.attend(query, key, value)
    return scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=query.shape[1] != key.shape[1]
    )


def document_starts(documents: Tensor) -> Tensor:
    """Returns the place in its row at which the document of each token begins.

    Args:
        documents: [b, t] integers; neighbours with the same number are of one document.

    Returns:
        [b, t] int32.

    Example:
        >>> document_starts(torch.tensor([[0, 0, 1, 1, 1]])).tolist()
        [[0, 0, 2, 2, 2]]
    """
    places = torch.arange(documents.shape[1], dtype=torch.int32, device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts: Tensor = torch.where(begins, places, 0).cummax(1).values
    return starts


class WithinDocuments:
    """Causal attention over rows of several documents: a token sees those before it in its own document.

    Args:
        starts: [b, t] int32, from `document_starts`.
    """

    def __init__(self, starts: Tensor) -> None:
        self.starts = starts

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Attend`."""
        query, key, value = shortened(query), shortened(key), shortened(value)
        # Where there is a kernel for tiles, `suits` takes longer rows too; it knows no documents.
        if blocked_attention.suits(query) and query.shape[2] <= blocked_attention.LONGEST:
            return blocked_attention.attend(query, key, value, self.starts)
        if query.device.type == "cpu":
            return document_attention.attend(query, key, value, self.starts)
        shared = query.shape[1] != key.shape[1]
        mask = self.mask(query.shape[2])
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=shared)

    def mask(self, t: int) -> Tensor:
        """Returns which key each query sees, [b, 1, t, t] bool."""
        places = torch.arange(t, dtype=self.starts.dtype, device=self.starts.device)
        return ((places >= self.starts[..., None]) & (places <= places[:, None]))[:, None]


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values.

    Args:
        width: d.
        heads: h.
        kv_heads: k, a divisor of h.
        head_width: e.
        query_norm: applied to each query head before rotation, or None (QK-norm: Dehghani et al. 2023,
            arXiv 2302.05442, section 2).
        key_norm: the same for keys.

    Raises:
        ValueError: `heads` is no multiple of `kv_heads`.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; Ainslie et al. 2023, arXiv 2305.13245.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        query_norm: nn.Module | None,
        key_norm: nn.Module | None,
    ) -> None:
        super().__init__()
        if heads % kv_heads:
            raise ValueError(f"heads ({heads}) must be a multiple of kv_heads ({kv_heads})")
        self.head_width = head_width
        self.query = Linear(width, heads * head_width, bias=False)
        self.key = Linear(width, kv_heads * head_width, bias=False)
        self.value = Linear(width, kv_heads * head_width, bias=False)
        self.output = Linear(heads * head_width, width, bias=False)
        self.query_norm = query_norm
        self.key_norm = key_norm

    def forward(self, x: Tensor, angles: Angles | None, layer: int, attend: Attend) -> Tensor:
        """Args: x [b, t, d], rotation angles if any, layer number, how to attend. Returns: [b, t, d]."""
        b, t, _ = x.shape
        query = self.query(x).view(b, t, -1, self.head_width)  # [b, t, h, e]
        key = self.key(x).view(b, t, -1, self.head_width)  # [b, t, k, e]
        value = self.value(x).view(b, t, -1, self.head_width).transpose(1, 2)  # [b, k, t, e]
        if self.query_norm is not None:
            query = self.query_norm(query)
        if self.key_norm is not None:
            key = self.key_norm(key)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        mixed = attend(layer, query.transpose(1, 2), key.transpose(1, 2), value)  # [b, h, t, e]
        return self.output(mixed.transpose(1, 2).reshape(b, t, -1))
