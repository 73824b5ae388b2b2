"""Sentence-pair contrastive learning: a text lies nearer to its partner than to everybody else's.

```
a, p [b, d] of unit length      s = a p^T / temperature      loss = -log softmax(s)[i, i]
```

The samples of a batch are each other's negatives, so a sum over micro-batches is another loss: with fewer
negatives. Give the trainer no micro-batch (or one of all rows that a rank has) and `rows` here instead:
the texts are then read that many at a time, and each part is read a second time when its gradient is made.
Memory is that of `rows` texts and the gradient is exactly that of the whole batch (gradient caching: Gao
et al. 2021, arXiv 2101.06983). Each rank has its own negatives only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from ingot.errors import ConfigError
from ingot.objectives.objective import Batch, Loss


class Contrastive:
    """InfoNCE over pairs of texts, in nats.

    Batch: `inputs` [b, t] and `partners` [b, u] int64; it may hold their masks as `mask` and
    `partner_mask`. The model has an embedding head.

    Args:
        temperature: that similarities are divided by.
        rows: texts that are read at once; None reads all.

    Raises:
        ConfigError: a temperature or a number of rows that is not above zero.

    Source: van den Oord et al. 2018, arXiv 1807.03748, equation 4; for sentences: Gao et al. 2021 (SimCSE),
    arXiv 2104.08821, section 2.
    """

    def __init__(self, temperature: float = 0.05, rows: int | None = None) -> None:
        for name, value in (("temperature", temperature), ("rows", rows)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}", where="contrastive", fix="use more than zero")
        self.temperature = temperature
        self.rows = rows

    def weight(self, batch: Batch) -> float:
        """Returns the number of pairs."""
        return float(len(batch["inputs"]))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the loss summed over the pairs, and how many found their partner."""
        ones = self.embed(model, batch["inputs"], batch.get("mask"))
        others = self.embed(model, batch["partners"], batch.get("partner_mask"))
        return self.couple(ones, others)

    def embed(self, model: nn.Module, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reads texts, `rows` at a time.

        Args:
            model: with an embedding head.
            tokens: [b, t] int64.
            mask: [b, t] bool, or None.

        Returns:
            [b, d] of unit length.
        """

        def vectors(tokens: Tensor, mask: Tensor | None) -> Any:
            return (model(tokens) if mask is None else model(tokens, mask=mask)).logits

        if self.rows is None or self.rows >= len(tokens):
            return torch.as_tensor(vectors(tokens, mask))
        parts = tokens.split(self.rows)
        masks = [None] * len(parts) if mask is None else mask.split(self.rows)
        read = [checkpoint(vectors, *part, use_reentrant=False) for part in zip(parts, masks, strict=True)]
        return torch.cat(read)

    def couple(self, ones: Tensor, others: Tensor) -> Loss:
        """Compares all texts with all partners, both [b, d]."""
        scores = ones @ others.T / self.temperature  # [b, b]
        right = torch.arange(len(ones), device=ones.device)
        found = (scores.detach().argmax(1) == right).float().sum()
        return Loss(cross_entropy(scores, right, reduction="sum"), {"accuracy": found})
