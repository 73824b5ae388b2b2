"""The gradient of a linear layer's weight on AMX tiles: `weight_gradient.cpp` does the work."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ingot.nn.kernels import build


@build.constant
def ready() -> bool:
    """Whether this machine has the kernel; the first call may compile it."""
    return build.load("weight_gradient") is not None


@torch.library.custom_op("ingot::weight_gradient", mutates_args=(), device_types="cpu")
def weight_gradient(given: Tensor, x: Tensor) -> Tensor:
    """Returns given^T x, summed over the tokens in fp32.

    Args:
        given: [t, o] bf16, the gradient of a linear layer's output.
        x: [t, i] bf16, the layer's input.

    Returns:
        [o, i] fp32; the same for any number of threads.
    """
    given, x = _dense(given), _dense(x)
    (t, o), i = given.shape, x.shape[1]
    if t == 0:
        return x.new_zeros(o, i, dtype=torch.float32)
    gradient = x.new_empty(o, i, dtype=torch.float32)
    function = build.load("weight_gradient").weight_gradient  # type: ignore[union-attr]
    pointers = [ctypes.c_void_p(part.data_ptr()) for part in (given, x, gradient)]
    steps = [ctypes.c_long(part.stride(0)) for part in (given, x)]
    function(
        pointers[0], steps[0], pointers[1], steps[1], pointers[2],
        ctypes.c_long(t), ctypes.c_long(o), ctypes.c_long(i), torch.get_num_threads(),
    )  # fmt: skip
    return gradient


@weight_gradient.register_fake
def _(given: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(given.shape[1], x.shape[1], dtype=torch.float32)


def _dense(x: Tensor) -> Tensor:
    """With the numbers of a row beside one another."""
    return x if x.stride(1) == 1 else x.contiguous()
