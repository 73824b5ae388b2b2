"""Mixed precision: where activations take the short number type that products run in."""

from __future__ import annotations

import torch
from torch import Tensor


def shortened(x: Tensor) -> Tensor:
    """Returns x in bf16 where autocast runs products in bf16, else x itself.

    Autocast converts the factors of products only. A residual stream left in float32 would be read,
    added to and written at twice the bytes all along the layers; bf16 has its range, and losses did not
    suffer (docs/experiments.md). fp16 has not: it stays out of the residual stream.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
        return x.to(torch.bfloat16)
    return x
