"""RMSprop: the gradient over the root of its running mean square.

```
v <- beta2 * v + (1 - beta2) * g^2        w <- w - rate * g / (sqrt(v) + epsilon)
```

Source: Tieleman and Hinton 2012, "Neural networks for machine learning", lecture 6.5; with momentum
on the scaled gradient: Graves 2013, arXiv 1308.0850, section 4.2 (without its centring).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ingot.optim.optimizer import Group, Optimizer
from ingot.optim.shards import all_local


class RMSprop(Optimizer):
    """Scales every element by how large its gradient has been.

    Args:
        parameters: tensors or groups.
        rate: learning rate.
        beta2: share of the mean square kept.
        momentum: of the scaled gradient.
        epsilon: added to the root.
        weight_decay: L2: added to the gradient times the weights.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float = 1e-3,
        beta2: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": rate, "beta2": beta2, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults | {"eps": epsilon})

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns a mean square and a momentum of zero."""
        return {"square": torch.zeros_like(parameter), "momentum": torch.zeros_like(parameter)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step."""
        squares = all_local(self.kept(parameters, "square"))
        momenta = all_local(self.kept(parameters, "momentum"))
        weights, gradients = all_local(parameters), all_local(gradients)
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["beta2"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["beta2"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_addcdiv_(momenta, gradients, roots)
        torch._foreach_add_(weights, momenta, alpha=-group["lr"])
