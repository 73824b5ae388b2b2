"""Lion: only the sign of a momentum decides where to step.

```
update = sign(beta1 * m + (1 - beta1) * g)        m <- beta2 * m + (1 - beta2) * g
w <- w - rate * (update + weight_decay * w)
```

One state per weight, half of Adam's. Every element moves by the whole rate, so the rate is 3 to 10
times smaller than AdamW's, and the weight decay that much larger.

Source: Chen et al. 2023, arXiv 2302.06675, program 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ingot.optim.optimizer import Group, Optimizer
from ingot.optim.shards import all_local


class Lion(Optimizer):
    """Steps by the sign of a momentum.

    Args:
        parameters: tensors or groups.
        rate: learning rate; every element moves by exactly this.
        betas: weight of the momentum in the sign, and share of the momentum kept.
        weight_decay: decoupled; per step the weights shrink by rate * weight_decay.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": rate, "betas": betas, "weight_decay": weight_decay})

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns a momentum of zero."""
        return {"momentum": torch.zeros_like(parameter)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step."""
        beta1, beta2 = group["betas"]
        momenta = all_local(self.kept(parameters, "momentum"))
        weights, gradients = all_local(parameters), all_local(gradients)
        signs = torch._foreach_lerp(gradients, momenta, beta1)
        torch._foreach_sign_(signs)
        torch._foreach_lerp_(momenta, gradients, 1 - beta2)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, signs, alpha=-group["lr"])
