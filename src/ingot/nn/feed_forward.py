"""Feed-forward layers: what a token does with what it has gathered."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu


class SwiGLU(nn.Module):
    """A gated feed-forward layer: down(silu(gate(x)) * up(x)).

    Args:
        width: d.
        feed_forward: f, the inner width.

    Source: Shazeer 2020, arXiv 2002.05202, equation 6.
    """

    def __init__(self, width: int, feed_forward: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, feed_forward, bias=False)
        self.up = nn.Linear(width, feed_forward, bias=False)
        self.down = nn.Linear(feed_forward, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        return self.down(silu(self.gate(x)) * self.up(x))
