"""Products of rows with the matrix of the group that they are in: y_j = W_group(j) x_j.

```
rows      | 0 0 0 | 1 | 3 3 3 3 |      sorted by group, so that each group's rows lie together and
              |     |      |           make one matrix product; groups without rows (2) cost nothing
matrices     W_0   W_1    W_3
```

How many rows a group has is data: it is read by the operation, which `torch.compile` takes as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ingot.nn.kernels import weight_gradient as kernel


def grouped_product(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Multiplies every row by the matrix of its group.

    Args:
        x: [n, i], rows sorted by group.
        weight: [x, o, i], a matrix per group. In another dtype than x, it is converted, and its gradient
            arrives in its own dtype.
        counts: [x] int64: rows of each group; n together.

    Returns:
        [n, o] in the dtype of x.

    Example:
        >>> grouped_product(torch.ones(3, 1), torch.tensor([[[2.0]], [[5.0]]]), torch.tensor([1, 2])).tolist()
        [[2.0], [5.0], [5.0]]
    """
    wanted = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not wanted and type(x) is Tensor and not torch.compiler.is_compiling():
        return _multiplied(x, weight.to(x.dtype), counts)  # calling the operation takes as long as a token
    product: Tensor = _Product.apply(x, weight, counts)
    return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
        narrow = weight.to(x.dtype)
        ctx.save_for_backward(x, narrow, counts)
        ctx.dtype = weight.dtype
        return _forwards(x, narrow, counts)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, counts = ctx.saved_tensors
        given = given.contiguous()
        to_x = _forwards(given, weight.mT, counts) if ctx.needs_input_grad[0] else None
        to_weight = _gradient(given, x, counts, ctx.dtype) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None


def groups(counts: Tensor) -> Iterator[tuple[int, slice]]:
    """Yields the groups that have rows, and where those are."""
    start = 0
    for group, count in enumerate(counts.tolist()):
        if count:
            yield group, slice(start, start + count)
        start += count


def _multiplied(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    y = x.new_empty(len(x), weight.shape[1])
    for group, rows in groups(counts):
        torch.mm(x[rows], weight[group].mT, out=y[rows])
    return y


_forwards = torch.library.custom_op("ingot::grouped_product", _multiplied, mutates_args=())


@_forwards.register_fake
def _(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    return x.new_empty(len(x), weight.shape[1])


@torch.library.custom_op("ingot::grouped_product_gradient", mutates_args=())
def _gradient(given: Tensor, x: Tensor, counts: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrices' gradient: each group's given^T x, [x, o, i] in `dtype`; zero for groups without rows."""
    shape = (len(counts), given.shape[1], x.shape[1])
    exact = dtype == torch.float32 and x.dtype == torch.bfloat16 and x.device.type == "cpu" and kernel.ready()
    gradient = x.new_empty(shape, dtype=dtype if exact else x.dtype)
    empty = set(range(len(counts)))
    for group, rows in groups(counts):
        empty.discard(group)
        if exact:
            gradient[group] = kernel.weight_gradient(given[rows], x[rows])
        else:
            torch.mm(given[rows].mT, x[rows], out=gradient[group])
    for group in empty:
        gradient[group].zero_()
    return gradient.to(dtype)


@_gradient.register_fake
def _(given: Tensor, x: Tensor, counts: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(len(counts), given.shape[1], x.shape[1], dtype=dtype)


@register_flop_formula(torch.ops.ingot.grouped_product)  # type: ignore[untyped-decorator, unused-ignore]
def _flops(x: Any, weight: Any, *more: Any, **named: Any) -> int:
    """Args: shapes. Returns: two FLOPs per number of a row and column of its matrix."""
    return 2 * int(x[0]) * int(weight[1]) * int(weight[2])


@register_flop_formula(torch.ops.ingot.grouped_product_gradient)  # type: ignore[untyped-decorator, unused-ignore]
def _gradient_flops(given: Any, x: Any, *more: Any, **named: Any) -> int:
    return 2 * int(given[0]) * int(given[1]) * int(x[1])
