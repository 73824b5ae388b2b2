"""GeGLU: a feed-forward layer that GELU gates."""

from __future__ import annotations

from torch import Tensor, nn

from ingot.nn.activations import gelu
from ingot.nn.linear import Linear


class GeGLU(nn.Module):
    """A gated feed-forward layer: down(gelu(gate(x)) * up(x)).

    Args:
        width: d.
        feed_forward: f, the inner width.

    Source: Shazeer 2020, arXiv 2002.05202, equation 6.
    """

    def __init__(self, width: int, feed_forward: int) -> None:
        super().__init__()
        self.gate = Linear(width, feed_forward, bias=False)
        self.up = Linear(width, feed_forward, bias=False)
        self.down = Linear(feed_forward, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        return self.down(gelu(self.gate(x)) * self.up(x))
