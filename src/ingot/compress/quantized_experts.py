"""Experts that hold their weights in int8, one scale per output row of each, and how a file packs them.

```
rows of x, sorted by expert  ->  one product per expert that has rows, as `quantized.product` makes it
in a file                        four weights in an int32, each 128 more than it is, the first lowest
```

Source of the packing: the compressed-tensors package, 0.20, `compressors/pack_quantized`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ingot.compress.quantized import product
from ingot.nn.grouped_product import groups

_TOGETHER = 4


class QuantizedStacked(nn.Module):
    """Linear layers without bias, one per expert, whose weights are int8.

    Args:
        weight: int8 [x, o, i].
        scale: [x, o], in the dtype that the layer computes in.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous().clone())  # a tensor of its own lies aligned
        self.register_buffer("scale", scale)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Args: x [m, i], rows sorted by expert; counts [x], rows of each. Returns: [m, o]."""
        y = x.new_empty(len(x), self.weight.shape[1])
        for expert, rows in groups(counts):
            y[rows] = product(x[rows], self.weight[expert], self.scale[expert])
        return y

    def dense(self) -> Tensor:
        """Returns the float32 weights [x, o, i] that these layers stand for."""
        return self.weight.float() * self.scale.float()[..., None]


def packed(weight: Tensor) -> Tensor:
    """Returns int8 weights [o, i] as they are stored, int32 [o, ceil(i / 4)].

    Example:
        >>> packed(torch.tensor([[-128, -127, -128, -128, -126]], dtype=torch.int8)).tolist()
        [[256, 2]]
    """
    shifted = (weight.short() + 128).to(torch.uint8)
    whole = pad(shifted, (0, -weight.shape[1] % _TOGETHER))
    return whole.contiguous().view(torch.int32)


def unpacked(stored: Tensor, width: int) -> Tensor:
    """Returns the int8 weights [o, width] of which `packed` gave [o, ceil(width / 4)]."""
    shifted = stored.contiguous().view(torch.uint8)[:, :width]
    return (shifted.short() - 128).to(torch.int8)
