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


class RMSNormFromOne(nn.Module):
    """An `RMSNorm` whose weight counts from one: zero leaves a vector as it was scaled (Gemma).

    Args:
        width: size of the last dimension.
        epsilon: added to the mean square.

    Source: Gemma Team 2024, arXiv 2408.00118, section 2; zero-centred as in their published code.
    """

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: the same shape and dtype."""
        wide = x.float()
        unit = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (unit * (1.0 + self.weight.float())).to(x.dtype)


class AllHeadsRMSNorm(RMSNorm):
    """An `RMSNorm` of queries or keys over all heads together (OLMo 2).

    Source: Walsh et al. 2024, 2 OLMo 2 Furious, arXiv 2501.00656, section 2.1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [b, t, h, e], of a norm made for the width h * e. Returns: the same shape and dtype."""
        return super().forward(x.flatten(-2)).view_as(x)
