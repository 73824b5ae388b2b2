"""A linear layer whose weight learns faster on CPUs.

Under bf16 autocast, a step of training makes three products of the same size:

```
y = x w^T         forwards       PyTorch, bf16
dx = dy w         backwards      PyTorch, bf16
dw = dy^T x       backwards      two to three times as long as either: both factors lie across
```

The third one is made here by a kernel where there is one, and arrives in fp32, as exact as it was summed:
autocast's own would be rounded to bf16 on its way to the fp32 weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ingot.nn.kernels import weight_gradient as kernel


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters, names and results.

    On CPUs with AMX, in training under bf16 autocast, the gradient of an fp32 weight is summed by a kernel
    and not rounded to bf16; everywhere else this is `nn.Linear`.

    Args:
        As `nn.Linear`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., i]. Returns: [..., o]."""
        if not _suits(x, self.weight):
            return linear(x, self.weight, self.bias)
        y = torch.ops.ingot.product(x.to(torch.bfloat16), self.weight)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether a gradient is wanted that the kernel can make; of plain tensors only, not of sharded ones."""
    wanted = torch.is_grad_enabled() and weight.requires_grad and type(weight) in (nn.Parameter, Tensor)
    able = x.device.type == weight.device.type == "cpu" and weight.dtype == torch.float32
    return wanted and able and _autocasts_to_bf16() and kernel.ready()


def _autocasts_to_bf16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


class _Product(torch.autograd.Function):
    """x w^T of a bf16 x and an fp32 w, multiplied in bf16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        narrow = weight.to(x.dtype)
        ctx.save_for_backward(x, narrow)
        return linear(x, narrow)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, Tensor]:
        x, narrow = ctx.saved_tensors
        rows = given.reshape(-1, given.shape[-1])  # [t, o]
        to_x = (rows @ narrow).view_as(x) if ctx.needs_input_grad[0] else None
        return to_x, kernel.weight_gradient(rows, x.reshape(-1, x.shape[-1]))


# As an operation of its own, and not a call of `apply`, because only such are found again in the cache of
# compiled graphs; torch.compile sees through it all the same and gets to see each of the three products.
_LIBRARY = torch.library.Library("ingot", "FRAGMENT")
_LIBRARY.define("product(Tensor x, Tensor weight) -> Tensor")
_LIBRARY.impl("product", _Product.apply, "CompositeImplicitAutograd")
