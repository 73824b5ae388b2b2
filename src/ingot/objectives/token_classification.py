"""Token classification: what is each token (a name, a verb, the begin of a place)?"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ingot.objectives.classification import Classification
from ingot.objectives.objective import Batch, Loss


class TokenClassification:
    """Cross-entropy of the right class of every token that has one, in nats.

    Batch: `inputs` [b, t] int64, `labels` [b, t] int64 with -100 where nothing is asked (padding, special
    tokens, all pieces of a word but the first); it may hold `mask` and `segments` [b, t].

    Args:
        class_weights: how much a token of each class counts, or None for alike.

    Example:
        >>> import torch
        >>> TokenClassification().weight({"labels": torch.tensor([[0, 1, -100], [2, -100, -100]])})
        3.0

    Source: Devlin et al. 2019, arXiv 1810.04805, section 5.3.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        self._each = Classification(class_weights)  # of texts or of tokens: the same sum over labels

    def weight(self, batch: Batch) -> float:
        """Returns the number of labelled tokens, or the sum of their weights."""
        return self._each.weight(batch)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed loss, and how many tokens (by weight) were right."""
        return self._each.loss(model, batch)
