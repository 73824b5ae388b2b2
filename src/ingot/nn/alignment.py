"""How one state looks over a sequence of others: attention as it was before transformers.

```
additive         score = v . tanh(W q + U k)      Bahdanau et al. 2015, arXiv 1409.0473, section 3.1
multiplicative   score = q . (W k)                Luong et al. 2015, arXiv 1508.04025, section 3.1 ("general")
```

What is looked at is the sequence itself: its mean, weighted by the softmax of the scores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Additive(nn.Module):
    """Scores by a small network over query and key.

    Args:
        query: width of the state that looks.
        memory: m, width of what is looked at.
        width: a, of the network.
    """

    def __init__(self, query: int, memory: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(memory, width)
        self.score = nn.Linear(width, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Returns what of a sequence [b, s, m] is compared with queries, once for all of them: [b, s, a]."""
        keys: Tensor = self.key(memory)
        return keys

    def forward(
        self, query: Tensor, keys: Tensor, memory: Tensor, real: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Looks over a sequence.

        Args:
            query: [b, q].
            keys: [b, s, a], from `keys`.
            memory: [b, s, m].
            real: [b, s] bool, False at padding; None has no padding.

        Returns:
            The weighted mean [b, m] and the weights [b, s], which sum to one.
        """
        scores = self.score((self.query(query)[:, None] + keys).tanh()).squeeze(-1)  # [b, s]
        return weighted(scores, memory, real)


class Multiplicative(nn.Module):
    """Scores by a product of query and key; keys are as wide as queries.

    Args:
        query: q, width of the state that looks.
        memory: m, width of what is looked at.
    """

    def __init__(self, query: int, memory: int) -> None:
        super().__init__()
        self.key = nn.Linear(memory, query, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Returns what of a sequence [b, s, m] is compared with queries, once for all of them: [b, s, q]."""
        keys: Tensor = self.key(memory)
        return keys

    def forward(
        self, query: Tensor, keys: Tensor, memory: Tensor, real: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Looks over a sequence; arguments and results as of `Additive`."""
        return weighted((keys @ query[:, :, None]).squeeze(-1), memory, real)


def weighted(scores: Tensor, memory: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the mean of memory [b, s, m] by the softmax of scores [b, s], and that softmax."""
    if real is not None:
        scores = scores.masked_fill(~real, -torch.inf)
    weights = scores.softmax(-1)
    return (weights[:, None] @ memory).squeeze(1), weights
