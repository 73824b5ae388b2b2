"""What the trainer asks of every objective.

The trainer splits a batch into micro-batches, sums `loss(...).sum` over them, and divides once by the
summed `weight`. So neither accumulation nor data parallelism changes the gradient, however ragged the
parts are: a mean of means never happens.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn

Batch = dict[str, Tensor]

IGNORED = -100  # a target that is not trained on


class Loss(NamedTuple):
    """A sum over what `weight` counts, and further sums to report (divided by the same weight)."""

    sum: Tensor  # scalar, float32, with gradient
    metrics: dict[str, Tensor]  # scalars without gradient


class Objective(Protocol):
    """A loss that the trainer can minimise."""

    def weight(self, batch: Batch) -> float:
        """Returns the count to divide by (tokens, pairs, images), known before the forward pass."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Runs the model on one micro-batch and returns the loss summed over its parts."""
        ...
