"""Sharpness-aware minimisation (SAM): the gradient of the worst point nearby, applied here.

```
g = gradient at w        h = gradient at w + rho * g / ||g||        w <- step of the optimizer from w by h
```

A minimum around which the loss rises steeply looks worse than a flat one, so the steps lead to flat ones.
Every update costs two passes over the batch.

Source: Foret et al. 2021, arXiv 2010.01412, algorithm 1 and equation 2 (p = 2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ingot.errors import ConfigError
from ingot.objectives.objective import Batch
from ingot.optim.joint import Joint
from ingot.optim.shards import all_local
from ingot.train.guard import Guard, GuardConfig
from ingot.train.step import Computed, Gradients, Update, clipped, judge, moving


class SharpnessAware:
    """A step program of two passes; face and exactness are those of `Accumulate`.

    The loss and the metrics it tells are those at the weights, the gradient norm is that of the gradient
    that is applied. Running statistics (batch norm) take note of the first pass only.

    Args:
        gradients: how a gradient is computed; over the optimizer's parameters.
        optimizer: what steps.
        rho: how far away to look: length of the way over all parameters together.
        clip: largest norm of the applied gradient, or None.
        guard: refuses updates; None refuses those that are not finite.

    Raises:
        ConfigError: `rho` is not above zero.
    """

    def __init__(
        self,
        gradients: Gradients,
        optimizer: Joint,
        rho: float = 0.05,
        clip: float | None = None,
        *,
        guard: Guard | None = None,
    ) -> None:
        if not rho > 0:
            raise ConfigError(f"rho is {rho}", where="sharpness", fix="use a length above 0, such as 0.05")
        self.gradients = gradients
        self.optimizer = optimizer
        self.rho = rho
        self.clip = clip
        self.guard = guard or Guard(GuardConfig(sigmas=None))
        self._buffers = moving(gradients.model)

    def update(self, batch: Batch, multiplier: float, momentum: float | None = None) -> Update:
        """Makes one update.

        Args:
            batch: this process's rows: tensors whose first dimension is the row.
            multiplier: of the learning rates.
            momentum: of this step, where the schedule drives it.
        """
        before = _copies(self._buffers)
        self.optimizer.zero_grad()
        here = self.gradients.compute(batch)
        if here.weight == 0:
            return Update(here.loss, here.metrics, here.norm, here.weight)
        there = self._nearby(batch, here.norm) if _finite(here) else here
        loss = here.loss if math.isfinite(there.loss) else there.loss
        refused = judge(self.guard, self.gradients.scaler, loss, there.norm)
        update = Update(loss, here.metrics, there.norm, here.weight, refused)
        if not update.accepted:
            self.optimizer.zero_grad()
            _put_back(self._buffers, before)
            return update
        applied = clipped(self.gradients.parameters, self.clip, there.norm)
        self.optimizer.step(multiplier, momentum)
        return update._replace(clipped_norm=applied)

    @torch.no_grad()
    def _nearby(self, batch: Batch, norm: float) -> Computed:
        """Replaces the gradients by those uphill from here; weights and statistics stay as they are."""
        climbing = [p for p in self.gradients.parameters if p.grad is not None]
        weights = all_local(climbing)
        slopes = all_local(p.grad for p in climbing if p.grad is not None)
        # Copies, since adding and subtracting a way would not lead back to the same bits.
        kept, statistics = _copies(weights), _copies(self._buffers)
        torch._foreach_add_(weights, slopes, alpha=self.rho / (norm + 1e-12))
        self.optimizer.zero_grad()
        try:
            with torch.enable_grad():
                return self.gradients.compute(batch)
        finally:
            _put_back(weights, kept)
            _put_back(self._buffers, statistics)


def _finite(computed: Computed) -> bool:
    return math.isfinite(computed.loss) and math.isfinite(computed.norm)


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _put_back(tensors: list[Tensor], copies: list[Tensor]) -> None:
    if tensors:
        torch._foreach_copy_(tensors, copies)
