"""Sequence classification: which class does a text belong to?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.objectives.objective import IGNORED, Batch, Loss


class Classification:
    """Cross-entropy of the right class, in nats, over the texts that have one.

    Batch: `inputs` [b, t] int64, `labels` [b] int64 with -100 where a text has none; it may hold `mask` and
    `segments` [b, t].

    Args:
        class_weights: how much a text of each class counts, or None for alike. The loss is divided by the
            weights of the texts, so that rare classes can count as much as common ones.

    Example:
        >>> Classification((1.0, 3.0)).weight({"labels": torch.tensor([0, 1, 1, -100])})
        7.0
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def weight(self, batch: Batch) -> float:
        """Returns the number of labelled texts, or the sum of their weights."""
        labels = batch["labels"]
        labels = labels[labels != IGNORED]
        if self.class_weights is None:
            return float(labels.numel())
        return float(self.class_weights[labels.cpu()].double().sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed loss, and how many (by weight) were right."""
        return labelled(read(model, batch).logits, batch["labels"], self.class_weights)


def labelled(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Loss:
    """Cross-entropy of labels, summed.

    Args:
        logits: [..., o].
        labels: [...] int64, -100 where there is none.
        class_weights: [o], or None.

    Returns:
        The sum, and the sum of the weights of those that were right as `accuracy`.
    """
    wide, flat = logits.float().flatten(0, -2), labels.flatten()
    weights = None if class_weights is None else class_weights.to(wide)
    loss = cross_entropy(wide, flat, weights, ignore_index=IGNORED, reduction="sum")
    right = wide.detach().argmax(-1) == flat  # never where a label is -100
    counts = right.float() if weights is None else right * weights[flat.clamp(min=0)]
    return Loss(loss, {"accuracy": counts.sum()})


def read(model: nn.Module, batch: Batch, inputs: str = "inputs") -> Any:
    """Runs an encoder on a batch, with the mask and the segments that stand in it.

    Args:
        model: called with tokens, and by name `mask` and `segments`.
        batch: holds them.
        inputs: name of the tokens.

    Returns:
        The model's named outputs.
    """
    return model(batch[inputs], **{name: batch[name] for name in ("mask", "segments") if name in batch})
