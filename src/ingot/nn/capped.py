"""A linear layer whose outputs stay below a cap: the head of models that cap their logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CappedLinear(nn.Linear):
    """cap * tanh(w x / cap), which is nearly w x while that is small.

    Args:
        width: d.
        outputs: how many.
        cap: that outputs stay below.

    Source: Gemma 2, Gemma Team 2024, arXiv 2408.00118, section 2.
    """

    def __init__(self, width: int, outputs: int, cap: float) -> None:
        super().__init__(width, outputs, bias=False)
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: [..., outputs]."""
        return self.cap * torch.tanh(super().forward(x) / self.cap)
