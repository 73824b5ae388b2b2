"""GELU, quick in bf16 on CPUs: PyTorch's is computed there as if for fp32, and so takes twice as long.

```
bf16, CPU with AVX512 and AMX     gelu.cpp: one pass over memory forwards, one backwards
anything else                     torch.nn.functional.gelu
```
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ingot.nn.kernels import build


def gelu(x: Tensor) -> Tensor:
    """x times the share of the normal distribution below x.

    Args:
        x: of any shape. In bf16 on CPUs with the kernel, results and gradients are the exact ones, rounded;
            otherwise they are torch's.

    Returns:
        The same shape and dtype.

    Source: Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and ready():
        return _gelu(x)
    return functional.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh, as GPT-2 and Gemma have it. The same shape and dtype."""
    return functional.gelu(x, approximate="tanh")


@build.constant
def ready() -> bool:
    """Whether this machine has the kernel; the first call may compile it."""
    return build.load("gelu") is not None


def _call(name: str, *tensors: Tensor) -> None:
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in tensors]
    function = getattr(build.load("gelu"), name)
    function(*pointers, ctypes.c_long(tensors[0].numel()), torch.get_num_threads())


@torch.library.custom_op("ingot::gelu", mutates_args=(), device_types="cpu")
def _gelu(x: Tensor) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    _call("gelu", x, y)
    return y


@torch.library.custom_op("ingot::gelu_gradient", mutates_args=(), device_types="cpu")
def _gradient(given: Tensor, x: Tensor) -> Tensor:
    given, x = given.contiguous(), x.contiguous()
    to_x = torch.empty_like(x)
    _call("gelu_gradient", given, x, to_x)
    return to_x


@_gelu.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_gradient.register_fake
def _(given: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, given: Tensor) -> Tensor:
    return _gradient(given, *ctx.saved_tensors)


_gelu.register_autograd(_backward, setup_context=_keep)
