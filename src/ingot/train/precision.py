"""Precision: what matrix products run in, while weights, sums and optimizers stay in float32.

```
fp32   everything in float32
tf32   products on CUDA tensor cores with 10 bits of mantissa; nothing else changes
bf16   automatic mixed precision; the range of float32, 7 bits of mantissa
fp16   automatic mixed precision with loss scaling: gradients below 6e-8 would become zero
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

Name = Literal["fp32", "tf32", "bf16", "fp16"]

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def autocast(dtype: torch.dtype, device: str) -> AbstractContextManager[None]:
    """Returns the context in which the forward pass runs; for float32 it does nothing.

    Args:
        dtype: of matrix products.
        device: 'cpu', 'cuda', 'cuda:1', ...
    """
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=dtype)


@contextmanager
def products(precision: Name) -> Iterator[None]:
    """Lets float32 products on CUDA use tensor cores while the context lasts, where that was asked for."""
    if precision != "tf32":
        yield
        return
    # The newer switches by backend cannot be mixed with this one, which the compiler still reads.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Scaler:
    """The loss scale of fp16: as large as the gradients allow, found by trying.

    Halves when a gradient overflows (that update is left out), doubles after `patience` good ones.

    Args:
        scale: to begin with, a power of two.
        patience: good updates before the next doubling.

    Source: Micikevicius et al. 2018, arXiv 1710.03740, section 3.2; the rule is that of section 3.2.1's
        "choosing a scaling factor" made dynamic.

    Example:
        >>> scaler = Scaler(4.0)
        >>> scaler.halve(), scaler.scale
        (True, 2.0)
    """

    def __init__(self, scale: float = 2.0**16, patience: int = 2000) -> None:
        self.scale = scale
        self.patience = patience
        self.good = 0

    def halve(self) -> bool:
        """Takes note of an overflow; returns whether a smaller scale may help."""
        self.good = 0
        if self.scale <= 1.0:
            return False
        self.scale /= 2
        return True

    def accept(self) -> None:
        """Takes note of a good update."""
        self.good += 1
        if self.good >= self.patience:
            self.scale, self.good = self.scale * 2, 0

    def state(self) -> dict[str, float]:
        """Returns what a checkpoint keeps."""
        return {"scale": self.scale, "good": self.good}

    def restore(self, state: dict[str, float]) -> None:
        """Takes back what `state` gave."""
        self.scale, self.good = float(state["scale"]), int(state["good"])
