"""Causal attention on AMX tiles, as PyTorch operations: `attention.cpp` does the work.

```
[b, h, t, e] views  --ctypes-->  strides and addresses; outputs are laid out [b, t, h, e], as projections
                                 want them; logsumexp is all that is kept for the way back
```
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ingot.nn.kernels import build


class _View(ctypes.Structure):
    """Where a [b, h, t, e] tensor is, and its strides."""

    _fields_ = (("at", ctypes.c_void_p), ("b", ctypes.c_long), ("h", ctypes.c_long), ("t", ctypes.c_long))


@build.constant
def ready() -> bool:
    """Whether this machine has the kernel; the first call may compile it."""
    return build.load("attention") is not None


def suits(query: Tensor) -> bool:
    """Whether the kernel can and should do this.

    Args:
        query: [b, h, t, e].
    """
    able = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[3] % 32 == 0
    return able and ready()


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention, scaled by 1/sqrt(e); scores in fp32, probabilities multiplied in bf16.

    Args:
        query: [b, h, t, e] bf16, e a multiple of 32.
        key: [b, k, t, e], k a divisor of h.
        value: [b, k, t, e].

    Returns:
        [b, h, t, e].

    Raises:
        ValueError: shapes or dtypes do not fit: the kernel would read past the end of a tensor.
    """
    mixed, _ = _attend(query, key, value)
    return mixed


def _empty(like: Tensor) -> Tensor:
    """[b, h, t, e] in the order [b, t, h, e]."""
    b, h, t, e = like.shape
    return like.new_empty(b, t, h, e).transpose(1, 2)


def _call(name: str, query: Tensor, key: Tensor, logsumexp: Tensor, *tensors: Tensor) -> None:
    b, h, t, e = query.shape
    shape = (ctypes.c_long * 5)(b, h, key.shape[1], t, e)
    views = (_View * len(tensors))(*(_View(x.data_ptr(), *x.stride()[:3]) for x in tensors))
    function = getattr(build.load("attention"), name)
    function(shape, views, ctypes.c_void_p(logsumexp.data_ptr()), torch.get_num_threads())


def _check(query: Tensor, key: Tensor, value: Tensor) -> None:
    (b, h, t, e), k = query.shape, key.shape[1]
    fits = key.shape == value.shape == (b, k, t, e) and h % k == 0 and e % 32 == 0
    if not fits or any(x.dtype != torch.bfloat16 for x in (query, key, value)):
        given = ", ".join(f"{list(x.shape)} {x.dtype}" for x in (query, key, value))
        raise ValueError(f"query, key and value do not fit or are not bf16: {given}")


def _dense(x: Tensor) -> Tensor:
    """With neighbours along e beside one another."""
    return x if x.stride(3) == 1 else x.contiguous()


@torch.library.custom_op("ingot::blocked_attention_tiles", mutates_args=())
def _attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    _check(query, key, value)
    query, key, value = _dense(query), _dense(key), _dense(value)
    mixed, logsumexp = _empty(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    _call("attend", query, key, logsumexp, query, key, value, mixed)
    return mixed, logsumexp


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("ingot::blocked_attention_tiles_gradient", mutates_args=())
def _gradient(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, logsumexp: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [_dense(x) for x in (query, key, value, mixed, given)]
    to_query, to_key, to_value = _empty(query), _empty(key), _empty(value)
    _call("attend_gradient", query, key, logsumexp.contiguous(), *inputs, to_query, to_key, to_value)
    return to_query, to_key, to_value


@_gradient.register_fake
def _(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, logsumexp: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(query), _empty(key), _empty(value)


def _keep(ctx, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:  # type: ignore[no-untyped-def]
    ctx.set_materialize_grads(False)  # nobody differentiates logsumexp: no zeros for it
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx, given: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    return _gradient(given, *ctx.saved_tensors)


_attend.register_autograd(_backward, setup_context=_keep)
