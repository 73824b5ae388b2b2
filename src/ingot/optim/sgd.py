"""Stochastic gradient descent with momentum.

```
m <- momentum * m + g        heavy ball: update = m        Nesterov: update = g + momentum * m
w <- w - rate * update
```

Source: Polyak 1964 (heavy ball); Sutskever et al. 2013, "On the importance of initialization and
momentum in deep learning", section 2 (Nesterov's form, written at the point looked ahead to).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from ingot.optim.optimizer import Group, Optimizer
from ingot.optim.shards import all_local


class SGD(Optimizer):
    """Steps against the gradient, with momentum.

    Args:
        parameters: tensors or groups.
        rate: learning rate.
        momentum: share of the last update kept.
        kind: of the momentum.
        weight_decay: L2: added to the gradient times the weights.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float = 0.1,
        momentum: float = 0.9,
        kind: Literal["heavy-ball", "nesterov"] = "nesterov",
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})
        self.kind = kind

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns a momentum of zero."""
        return {"momentum": torch.zeros_like(parameter)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step."""
        momenta = all_local(self.kept(parameters, "momentum"))
        weights, steps = all_local(parameters), all_local(gradients)
        if group["weight_decay"]:
            steps = list(torch._foreach_add(steps, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, steps)
        if self.kind == "nesterov":
            steps = list(torch._foreach_add(steps, momenta, alpha=group["momentum"]))
        else:
            steps = momenta
        torch._foreach_add_(weights, steps, alpha=-group["lr"])
