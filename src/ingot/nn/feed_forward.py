"""Feed-forward layers: what a token does with what it has gathered."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor, nn
from torch.nn.functional import relu

from ingot.nn.linear import Linear

Activation = Callable[[Tensor], Tensor]


class GatedFeedForward(nn.Module):
    """A gated feed-forward layer: down(activation(gate(x)) * up(x)).

    With SiLU it is called SwiGLU, with GELU GeGLU.

    Args:
        width: d.
        feed_forward: f, the inner width.
        activation: of the gate.
        biases: which of `gate`, `up` and `down` have one.

    Source: Shazeer 2020, arXiv 2002.05202, equation 6.
    """

    def __init__(
        self, width: int, feed_forward: int, activation: Activation, biases: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.gate = Linear(width, feed_forward, bias="gate" in biases)
        self.up = Linear(width, feed_forward, bias="up" in biases)
        self.down = Linear(feed_forward, width, bias="down" in biases)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


class FeedForward(nn.Module):
    """The plain feed-forward layer: down(activation(up(x))).

    Args:
        width: d.
        feed_forward: f, the inner width.
        activation: of the inner values, such as GELU or `squared_relu`.
        biases: which of `up` and `down` have one.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.3.
    """

    def __init__(
        self, width: int, feed_forward: int, activation: Activation, biases: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.up = Linear(width, feed_forward, bias="up" in biases)
        self.down = Linear(feed_forward, width, bias="down" in biases)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        return self.down(self.activation(self.up(x)))


def squared_relu(x: Tensor) -> Tensor:
    """The square of what is positive (So et al. 2021, Primer, arXiv 2109.08668, section 4)."""
    return relu(x).square()
