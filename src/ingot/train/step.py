"""Step programs: how one update of the weights happens.

```
batch -> weight of all micro-batches and ranks -> forward, backward of each micro-batch, divided by it
      -> one number each for loss and gradient norm -> guard -> clip -> optimizer
```

`Gradients` is the first half and stands by itself, so that other programs (two passes, several models)
are made of the same exact sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ingot.objectives.objective import Batch, Loss, Objective
from ingot.optim.joint import Joint
from ingot.parallel.apply import accumulate, clip, total_norm
from ingot.parallel.ranks import ALONE, Ranks
from ingot.train.compiling import trust_vector_instructions
from ingot.train.guard import Guard, GuardConfig
from ingot.train.precision import Scaler, autocast

LossFunction = Callable[[Batch], Loss]


class Computed(NamedTuple):
    """What a pass over a batch gave, over all ranks; the gradients stand in the parameters."""

    loss: float  # per counted item
    metrics: dict[str, float]  # likewise
    norm: float  # of the whole gradient
    weight: float  # what was counted


class Update(NamedTuple):
    """What one step did."""

    loss: float  # per counted item, before the update
    metrics: dict[str, float]
    gradient_norm: float  # before clipping
    weight: float  # what was counted
    refused: str | None = None  # why the weights were left alone, where they were
    clipped_norm: float | None = None  # of the gradient that was applied; None where none was

    @property
    def accepted(self) -> bool:
        """Whether the weights were updated."""
        return self.refused is None


class StepProgram(Protocol):
    """One way to make an update."""

    def update(self, batch: Batch, multiplier: float, momentum: float | None = None) -> Update:
        """Makes one update from this process's rows of a global batch."""
        ...


class Forward:
    """The forward pass of a micro-batch, in the given precision, compiled where asked and possible.

    Args:
        model: in float32: these are the master weights; matrix products run in `dtype`.
        objective: what to compute.
        dtype: float32, or a shorter one for automatic mixed precision.
        compiled: whether torch.compile fuses it. Shapes should then be fixed.
        device: 'cpu', 'cuda', ...

    Attributes:
        failure: why it runs uncompiled after all, in words; None where all is as asked.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, dtype: torch.dtype, compiled: bool, device: str
    ) -> None:
        self.model = model
        self.objective = objective
        self.dtype = dtype
        self.device = device
        self.failure: str | None = None
        if compiled and device == "cpu":
            trust_vector_instructions()
        self._compiled = torch.compile(self._loss, dynamic=False) if compiled else None

    def __call__(self, batch: Batch) -> Loss:
        """Returns the loss of a micro-batch."""
        # Around the compiled code, not inside: a graph that enters autocast is not found in the cache of
        # a later process, which then traces and differentiates it anew (2 s of 4 s to the first step).
        with autocast(self.dtype, self.device):
            return self._loss(batch) if self._compiled is None else self._fused(self._compiled, batch)

    def _fused(self, compiled: LossFunction, batch: Batch) -> Loss:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return compiled(batch)
        except TorchDynamoException as error:
            self.failure = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            self._compiled = None
            return self._loss(batch)

    def _loss(self, batch: Batch) -> Loss:
        return self.objective.loss(self.model, batch)


def loss_function(
    model: nn.Module, objective: Objective, dtype: torch.dtype, compiled: bool, device: str
) -> Forward:
    """Returns the forward pass of a micro-batch; see `Forward`."""
    return Forward(model, objective, dtype, compiled, device)


class Gradients:
    """The exact gradient of a global batch: sums over micro-batches and ranks, one division.

    What is drawn at random by a model (dropout) depends on rank and micro-batch, as does a term that
    couples samples through statistics of a micro-batch (the balance of a mixture of experts). Everything
    else does not know how the batch was cut.

    Args:
        objective: whose weights divide.
        loss: the forward pass (`Forward`).
        parameters: to differentiate by.
        micro_batch: rows that run at once, or None for all.
        device: where micro-batches go.
        ranks: this process and those that have the other rows.
        model: what `parallelize` returned: gradients stay on their ranks until the last micro-batch.
        scaler: of fp16's loss, or None.
    """

    def __init__(
        self,
        objective: Objective,
        loss: LossFunction,
        parameters: Sequence[Tensor],
        micro_batch: int | None = None,
        *,
        device: str | None = None,
        ranks: Ranks = ALONE,
        model: nn.Module | None = None,
        scaler: Scaler | None = None,
    ) -> None:
        self.objective = objective
        self.loss = loss
        self.parameters = list(parameters)
        self.micro_batch = micro_batch
        self.device = device
        self.ranks = ranks
        self.model = nn.Module() if model is None else model
        self.scaler = scaler

    def compute(self, batch: Batch) -> Computed:
        """Leaves the gradient of the batch in the parameters, which must have none before.

        The device is read once. A batch that weighs nothing leaves no gradient.

        Args:
            batch: tensors whose first dimension is the row; on the CPU nobody waits for their weight.
        """
        weight = self.ranks.sum_numbers([self.objective.weight(batch)])[0]
        if weight == 0:
            return Computed(0.0, {}, 0.0, 0.0)
        scale = 1.0 if self.scaler is None else self.scaler.scale
        sums: dict[str, Tensor] = {}
        parts = list(_split(batch, self.micro_batch))
        for number, part in enumerate(parts, 1):
            if self.device is not None:
                part = {name: value.to(self.device, non_blocking=True) for name, value in part.items()}
            with accumulate(self.model, last=number == len(parts)):
                loss = self.loss(part)
                (loss.sum / (weight / scale)).backward()
            for name, value in {"": loss.sum.detach(), **loss.metrics}.items():
                sums[name] = sums[name] + value if name in sums else value
        if scale != 1.0:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], 1 / scale)
        norm = total_norm(self.parameters)
        totals = self.ranks.sum(torch.stack([value.float() for value in sums.values()]))
        *values, length = torch.cat([totals, norm.to(totals).reshape(1)]).tolist()
        averages = {name: value / weight for name, value in zip(sums, values, strict=True)}
        return Computed(averages.pop(""), averages, length, weight)


class Accumulate:
    """The default step: gradients of micro-batches added up, divided once, guarded, clipped, applied.

    Args:
        objective: whose weights divide.
        loss: the forward pass (`Forward`).
        optimizer: what steps.
        micro_batch: rows that run at once, or None for all.
        clip: largest norm of the whole gradient, or None.
        guard: refuses updates; None refuses those that are not finite.
        device, ranks, model, scaler: as in `Gradients`.
    """

    def __init__(
        self,
        objective: Objective,
        loss: LossFunction,
        optimizer: Joint,
        micro_batch: int | None = None,
        clip: float | None = None,
        *,
        guard: Guard | None = None,
        device: str | None = None,
        ranks: Ranks = ALONE,
        model: nn.Module | None = None,
        scaler: Scaler | None = None,
    ) -> None:
        parameters = optimizer.parameters()
        self.gradients = Gradients(
            objective, loss, parameters, micro_batch, device=device, ranks=ranks, model=model, scaler=scaler
        )
        self.optimizer = optimizer
        self.clip = clip
        self.guard = guard or Guard(GuardConfig(sigmas=None))
        self._buffers = [] if model is None else moving(model)

    def update(self, batch: Batch, multiplier: float, momentum: float | None = None) -> Update:
        """Makes one update.

        Args:
            batch: this process's rows: tensors whose first dimension is the row.
            multiplier: of the learning rates.
            momentum: of this step, where the schedule drives it.
        """
        self.optimizer.zero_grad()
        before = [buffer.clone() for buffer in self._buffers]
        loss, metrics, norm, weight = self.gradients.compute(batch)
        if weight == 0:
            return Update(loss, metrics, norm, weight)
        refused = judge(self.guard, self.gradients.scaler, loss, norm)
        if refused is not None:
            self.optimizer.zero_grad()
            if before:
                torch._foreach_copy_(self._buffers, before)
            return Update(loss, metrics, norm, weight, refused)
        applied = clipped(self.gradients.parameters, self.clip, norm)
        self.optimizer.step(multiplier, momentum)
        return Update(loss, metrics, norm, weight, clipped_norm=applied)


def clipped(parameters: Sequence[Tensor], largest: float | None, norm: float) -> float:
    """Scales a gradient of a known norm down to the largest one allowed, and returns its norm then."""
    if largest is None or norm <= largest:
        return norm
    return norm * clip(parameters, largest, torch.tensor(norm))


def moving(model: nn.Module) -> list[Tensor]:
    """Returns what a forward pass may move (batch norm's statistics): put back when an update is refused."""
    kept = model.state_dict(keep_vars=True).values()
    return [tensor for tensor in kept if not isinstance(tensor, nn.Parameter) and tensor.is_floating_point()]


def judge(guard: Guard, scaler: Scaler | None, loss: float, norm: float) -> str | None:
    """Returns why an update must not happen, or None; keeps the loss scale in step.

    A gradient that overflowed because its scale was too large is left out without counting as a fault.
    """
    if scaler is not None and loss - loss == 0 and norm - norm != 0 and scaler.halve():
        return f"overflow in fp16; the loss scale is {scaler.scale:g} now"
    refused = guard.verdict(loss, norm)
    if scaler is not None and refused is None:
        scaler.accept()
    return refused


def _split(batch: Batch, rows: int | None) -> Iterator[Batch]:
    """The micro-batches of a batch, in order."""
    count = len(next(iter(batch.values())))
    rows = rows or count
    for start in range(0, count, rows):
        yield {name: value[start : start + rows] for name, value in batch.items()}
