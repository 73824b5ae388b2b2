"""Layers that hold their weights in int8 with one scale per output row.

```
weight[o, i]  is about  scale[o] * int8[o, i]        scale[o] = max_i |weight[o, i]| / 127
```

Symmetric, so that zero stays zero; per row, because rows differ in size and a scale that belongs to a
row can be applied after the product, to one number instead of a whole row of weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MOST_ROWS = 8
"""Up to so many rows the int8 kernel wins over converting the weights first.

Measured on one AMX core at bf16, 1024 x 384 weights, microseconds (kernel, convert, dense bf16): 1 row 20,
112, 50; 4 rows 39, 113, 49; 8 rows 77, 114, 51; 32 rows 430, 120, 56.
"""

_ALIGNED = 64
"""Bytes. The kernel's loads are aligned ones (torch 2.13): on a tensor that lies anywhere else (a file mapped
into memory puts it there) the process dies of a segmentation fault."""

_LANES = 32
"""For the same reason it gets rows whose length is a multiple of this only, so that each lies aligned."""

_int8_kernel = getattr(torch, "_weight_int8pack_mm", None)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds a matrix, or several, to int8, each row by its own scale.

    Args:
        weight: [..., o, i], any float dtype.

    Returns:
        int8 weights [..., o, i] in -127..127 and scales [..., o] in float32. The scales are rounded to bf16
        before they are used, so that the result is the same in every dtype that it is run in.
    """
    weight = weight.detach().float()
    scale = (weight.abs().amax(dim=-1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    scale = scale.bfloat16().float()
    return (weight / scale[..., None]).round().clamp(-127, 127).to(torch.int8), scale


def product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Multiplies rows by the matrix that int8 weights and their scales stand for.

    Args:
        x: [..., i] in the dtype of the scales.
        weight: int8 [o, i].
        scale: [o].

    Returns:
        [..., o].
    """
    rows = x.reshape(-1, x.shape[-1])
    few = len(rows) <= MOST_ROWS and rows.shape[1] % _LANES == 0
    if _int8_kernel is not None and few and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        rows = rows.contiguous()
        if rows.data_ptr() % _ALIGNED == 0 and weight.data_ptr() % _ALIGNED == 0:
            return _int8_kernel(rows, weight, scale).view(*x.shape[:-1], -1)
    return linear(x, weight.to(x.dtype)) * scale


class QuantizedLinear(nn.Module):
    """A linear layer whose weights are int8.

    Args:
        weight: int8 [o, i].
        scale: [o], in the dtype that the layer computes in.
        bias: [o] in the same, or None.
        cap: that outputs stay below, softly, or None.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, scale: Tensor, bias: Tensor | None = None, cap: float | None = None
    ) -> None:
        super().__init__()
        self.cap = cap
        self.register_buffer("bias", bias)
        self.register_buffer("weight", weight.contiguous().clone())  # a tensor of its own lies aligned
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., i] in the dtype of the scale. Returns: [..., o]."""
        y = product(x, self.weight, self.scale)
        if self.bias is not None:
            y = y + self.bias
        return y if self.cap is None else self.cap * torch.tanh(y / self.cap)

    def dense(self) -> Tensor:
        """Returns the float32 weights [o, i] that this layer stands for."""
        return self.weight.float() * self.scale.float()[:, None]


class QuantizedEmbedding(nn.Module):
    """An embedding whose vectors are int8.

    Args:
        weight: int8 [v, d].
        scale: [v], in the dtype of the vectors that it gives.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("scale", scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Args: tokens [b, t] int64. Returns: [b, t, d]."""
        return self.weight[tokens].to(self.scale.dtype) * self.scale[tokens].unsqueeze(-1)

    def dense(self) -> Tensor:
        """Returns the float32 vectors [v, d] that this layer stands for."""
        return self.weight.float() * self.scale.float()[:, None]
