"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Scales vectors to unit root mean square, then by a learned weight.

    Computed in float32 whatever the input's dtype, and multiplied by the weight after the cast back,
    as the Hugging Face models do it, so that logits agree.

    Args:
        width: size of the last dimension.
        epsilon: added to the mean square.

    Source: Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
    """

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: the same shape and dtype."""
        wide = x.float()
        unit = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (self.weight * unit).to(x.dtype)
