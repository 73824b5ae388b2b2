"""Adam and AdamW: running means of the gradient and of its square, both freed of their start at zero.

```
m <- beta1 * m + (1 - beta1) * g                 v <- beta2 * v + (1 - beta2) * g^2
w <- w - rate * (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + epsilon)
```

AdamW shrinks the weights by rate * weight_decay beside that step; Adam adds weight_decay * w to g.

Source: Kingma and Ba 2015, arXiv 1412.6980, algorithm 1; Loshchilov and Hutter 2019, arXiv 1711.05101,
algorithm 2. The step itself is PyTorch's fused kernel: one pass over the memory instead of ten.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from ingot.optim.optimizer import Group, Optimizer
from ingot.optim.shards import all_local

_KERNELS = {"coupled": torch._fused_adam_, "decoupled": torch._fused_adamw_}


class Adam(Optimizer):
    """Scales the mean gradient of every element by the root of its mean square.

    Args:
        parameters: tensors or groups.
        rate: learning rate.
        betas: shares kept of the mean and of the mean square.
        epsilon: added to the root.
        weight_decay: how strongly weights shrink.
        decay: `decoupled` is AdamW; `coupled` (L2, through the gradient) is Adam.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decay: Literal["coupled", "decoupled"] = "decoupled",
    ) -> None:
        defaults = {"lr": rate, "betas": betas, "eps": epsilon, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)
        self.kernel = _KERNELS[decay]

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns means of zero after no steps, under the names that torch.optim.AdamW uses."""
        return {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }

    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step."""
        steps = self.kept(parameters, "step")
        torch._foreach_add_(steps, 1)
        self.kernel(
            all_local(parameters),
            all_local(gradients),
            all_local(self.kept(parameters, "exp_avg")),
            all_local(self.kept(parameters, "exp_avg_sq")),
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
