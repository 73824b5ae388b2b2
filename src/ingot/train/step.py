"""Step programs: how one update of the weights happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ingot.objectives.objective import Batch, Loss, Objective
from ingot.optim.joint import Joint

LossFunction = Callable[[Batch], Loss]


class Update(NamedTuple):
    """What one step did."""

    loss: float  # per counted item, before the update
    metrics: dict[str, float]
    gradient_norm: float  # before clipping
    weight: float  # what was counted
    accepted: bool  # False: the gradient or the loss was not finite and the weights were left alone


def loss_function(
    model: nn.Module, objective: Objective, dtype: torch.dtype, compiled: bool, device: str
) -> LossFunction:
    """Returns the forward pass of a micro-batch, in the given precision, compiled where asked.

    Args:
        model: in float32: these are the master weights; matrix products run in `dtype`.
        objective: what to compute.
        dtype: float32, or bfloat16 for automatic mixed precision.
        compiled: whether torch.compile fuses it. Shapes should then be fixed.
        device: 'cpu', 'cuda', ...
    """

    def forward(batch: Batch) -> Loss:
        kind = device.split(":")[0]
        with nullcontext() if dtype == torch.float32 else torch.autocast(kind, dtype=dtype):
            return objective.loss(model, batch)

    return torch.compile(forward, dynamic=False) if compiled else forward


class Accumulate:
    """The default step: gradients of micro-batches added up, divided once, guarded, clipped, applied.

    Args:
        objective: whose weights divide.
        loss: the forward pass (`loss_function`).
        optimizer: what steps.
        micro_batch: rows that run at once, or None for all.
        clip: largest norm of the whole gradient, or None.
    """

    def __init__(
        self,
        objective: Objective,
        loss: LossFunction,
        optimizer: Joint,
        micro_batch: int | None,
        clip: float | None,
    ) -> None:
        self.objective = objective
        self.loss = loss
        self.optimizer = optimizer
        self.micro_batch = micro_batch
        self.clip = clip

    def update(self, batch: Batch, multiplier: float) -> Update:
        """Makes one update.

        Args:
            batch: tensors whose first dimension is the row.
            multiplier: of the learning rates.
        """
        weight = self.objective.weight(batch)
        if weight == 0:
            return Update(0.0, {}, 0.0, 0.0, accepted=True)
        self.optimizer.zero_grad()
        total = torch.zeros(())
        metrics: dict[str, Tensor] = {}
        for part in _split(batch, self.micro_batch):
            loss = self.loss(part)
            (loss.sum / weight).backward()
            total = total + loss.sum.detach().cpu()
            for name, value in loss.metrics.items():
                metrics[name] = metrics.get(name, torch.zeros(())) + value.detach().cpu()
        parameters = self.optimizer.parameters()
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        accepted = bool(torch.isfinite(norm)) and bool(torch.isfinite(total))
        if accepted:
            if self.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
            self.optimizer.step(multiplier)
        averages = {name: float(value) / weight for name, value in metrics.items()}
        return Update(float(total) / weight, averages, float(norm), weight, accepted)


def _split(batch: Batch, rows: int | None) -> Iterator[Batch]:
    """The micro-batches of a batch, in order."""
    count = len(next(iter(batch.values())))
    rows = rows or count
    for start in range(0, count, rows):
        yield {name: value[start : start + rows] for name, value in batch.items()}
