"""Adafactor: Adam's mean square kept as one number per row and one per column.

```
R <- beta2 * R + (1 - beta2) * mean over columns of (g^2 + e1)      beta2 = 1 - n^-0.8 at step n
C <- beta2 * C + (1 - beta2) * mean over rows of (g^2 + e1)
u = g / sqrt(R C / mean(R))                                         u <- u / max(1, rms(u) / clip)
w <- w - rate * max(e2, rms(w)) * (u + weight_decay * w)
```

A matrix of n by m needs n + m numbers of state, not 2 n m. The rate is relative to the size of the
weights.

Source: Shazeer and Stern 2018, arXiv 1804.04235, algorithms 4 and 5. The schedule sets the rate, in
place of the paper's min(0.01, 1/sqrt(n)).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ingot.optim.optimizer import Group, Optimizer
from ingot.optim.shards import local, spread_like, whole


class Adafactor(Optimizer):
    """Scales the gradient by a factored mean square, and the step by the size of the weights.

    Args:
        parameters: tensors or groups. Of tensors with more than two dimensions the last two are factored.
        rate: relative to the root mean square of the weights.
        exponent: how fast the memory of squares grows: at step n they keep 1 - n ** -exponent.
        clip: largest root mean square of an update before the rate.
        epsilons: added to the squares; smallest size that weights are taken to have.
        weight_decay: decoupled, relative to the step.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float = 1e-2,
        exponent: float = 0.8,
        clip: float = 1.0,
        epsilons: tuple[float, float] = (1e-30, 1e-3),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": rate, "weight_decay": weight_decay})
        self.exponent, self.clip, self.epsilons = exponent, clip, epsilons

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns mean squares of zero, factored for matrices; they are small, so every rank has all."""
        zeros = local(parameter).new_zeros
        step = torch.zeros((), dtype=torch.float32)  # on the CPU: read at every step without a wait
        if parameter.dim() < 2:
            return {"step": step, "square": zeros(parameter.shape)}
        rows, columns = parameter.shape[:-1], parameter.shape[:-2] + parameter.shape[-1:]
        return {"step": step, "rows": zeros(rows), "columns": zeros(columns)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step."""
        for parameter, gradient in zip(parameters, gradients, strict=True):
            state = self.state[parameter]
            state["step"] += 1
            step = self._scaled(whole(gradient), state, new=float(state["step"]) ** -self.exponent)
            step /= (_rms(step) / self.clip).clamp(min=1)
            weights = whole(parameter)
            rate = group["lr"] * _rms(weights).clamp(min=self.epsilons[1])
            step = rate * (step + group["weight_decay"] * weights)
            local(parameter).sub_(local(spread_like(step, parameter)))

    def _scaled(self, gradient: Tensor, state: dict[str, Tensor], new: float) -> Tensor:
        """The gradient over the root of its mean square, in which the newest square weighs `new`."""
        square = gradient.square() + self.epsilons[0]
        if gradient.dim() < 2:
            return gradient * state["square"].lerp_(square, new).rsqrt()
        rows = state["rows"].lerp_(square.mean(dim=-1), new)
        columns = state["columns"].lerp_(square.mean(dim=-2), new)
        relative = rows / rows.mean(dim=-1, keepdim=True)
        return gradient * relative.rsqrt().unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)


def _rms(tensor: Tensor) -> Tensor:
    return tensor.square().mean().sqrt()
