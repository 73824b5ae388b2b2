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

from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn import blocked_attention, document_attention, scoring
from ingot.nn.linear import Linear
from ingot.nn.mixed import shortened
from ingot.nn.positions import Alibi, Angles, rotate
from ingot.nn.scoring import Scored


class Attend(Protocol):
    """Scores queries against keys and mixes values; may remember keys and values between calls."""

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """Scores and mixes.

        Args:
            layer: its number.
            query: [b, h, t, e].
            key: [b, k, t, e].
            value: [b, k, t, w]; w is e but where latent attention makes it another.
            scored: what the layer asks for beyond causal attention; None is nothing.

        Returns:
            [b, h, t, w].
        """
        ...


def causal(layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None) -> Tensor:
    """Causal attention over the tokens of one pass: token i sees tokens 0 to i, as far as its window goes."""
    query, key, value = shortened(query), shortened(key), shortened(value)
    scored = scored and scored.within(query.shape[2])
    if scored is not None:
        return scoring.causal(query, key, value, scored)
    if blocked_attention.suits(query) and query.shape[-1] == value.shape[-1]:
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

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`."""
        query, key, value = shortened(query), shortened(key), shortened(value)
        scored = scored and scored.within(query.shape[2])
        if scored is not None or query.shape[-1] != value.shape[-1]:
            return scoring.causal(query, key, value, scored or Scored(), self.starts)
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
        query_norm: applied to the query heads [b, t, h, e] before rotation, or None (QK-norm: Dehghani et al.
            2023, arXiv 2302.05442, section 2).
        key_norm: the same for keys.
        biases: which of `query`, `key`, `value` and `output` have one.
        window: tokens that a token sees, itself included; None sees all before it.
        score_scale: that scores are multiplied by; None is 1 / sqrt(e).
        score_cap: that scores stay below, softly, or None.
        alibi: how scores fall with distance, or None.
        sinks: [h] learned logits that take their share of the softmax and give nothing, or None.

    Raises:
        ValueError: `heads` is no multiple of `kv_heads`.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; Ainslie et al. 2023, arXiv 2305.13245; the
    others in `scoring`.
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
        biases: Collection[str] = (),
        window: int | None = None,
        score_scale: float | None = None,
        score_cap: float | None = None,
        alibi: Alibi | None = None,
        sinks: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        if heads % kv_heads:
            raise ValueError(f"heads ({heads}) must be a multiple of kv_heads ({kv_heads})")
        self.head_width = head_width
        self.query = Linear(width, heads * head_width, bias="query" in biases)
        self.key = Linear(width, kv_heads * head_width, bias="key" in biases)
        self.value = Linear(width, kv_heads * head_width, bias="value" in biases)
        self.output = Linear(heads * head_width, width, bias="output" in biases)
        self.query_norm = query_norm
        self.key_norm = key_norm
        self.window = window
        self.score_cap = score_cap
        # Whoever attends divides by sqrt(e): another scale is put into the query.
        self.query_scale = None if score_scale is None else score_scale * head_width**0.5
        self.alibi = alibi
        self.sinks = sinks

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
        if self.query_scale is not None:
            query = query * self.query_scale
        query, key = query.transpose(1, 2), key.transpose(1, 2)
        slopes = None if self.alibi is None else self.alibi.slopes
        scored = Scored(self.window, self.score_cap, slopes, self.sinks)
        if all(part is None for part in scored):
            mixed = attend(layer, query, key, value)  # [b, h, t, e]
        else:
            mixed = attend(layer, query, key, value, scored)
        return self.output(mixed.transpose(1, 2).reshape(b, t, -1))
